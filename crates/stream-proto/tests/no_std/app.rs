//! A program without the standard library: one answer of one item, from one machine to the other.
//!
//! `unsafe` is here because an allocator, a C library and a C `main` cannot be had without it.
#![no_std]
#![no_main]

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_int;

use stream_proto::{
    Inbound, InboundConfig, Instant, Message, Offer, Open, Outbound, OutboundConfig, Status, Termination,
};

#[link(name = "c")]
unsafe extern "C" {
    fn abort() -> !;
    fn aligned_alloc(align: usize, size: usize) -> *mut u8;
    fn free(pointer: *mut u8);
}

struct CAllocator;

#[global_allocator]
static ALLOCATOR: CAllocator = CAllocator;

// SAFETY: C's allocator keeps the contract; it wants sizes that are multiples of the alignment.
unsafe impl GlobalAlloc for CAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { aligned_alloc(layout.align(), layout.pad_to_align().size()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, _layout: Layout) {
        unsafe { free(pointer) }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe { abort() }
}

/// The `alloc` that comes with the compiler was built to unwind, and names these two. Here a panic aborts: nobody calls them.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    unsafe { abort() }
}

#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    let now = Instant::ORIGIN;
    let mut inbound = Inbound::new(InboundConfig::default(), now);
    let Ok(Offer::Supported(open)) = Open::parse(&inbound.open().encode()) else {
        return 1;
    };
    let mut outbound = Outbound::new(7, &open, &OutboundConfig::default(), now);
    if outbound.push(b"item").is_err() {
        return 2;
    }
    outbound.finish(Status::ok());
    let answer = outbound.answer().encode();
    while let Some(transmit) = outbound.poll_transmit(now) {
        let header = Some(answer.as_str());
        let message = Message {
            header,
            has_headers: true,
            payload: transmit.payload,
            ..Message::default()
        };
        inbound.handle(now, &message);
    }
    let is_item = inbound.poll_item(now).is_some_and(|item| item == "item");
    let is_complete = inbound.termination().is_some_and(Termination::is_ok);
    if is_item && is_complete { 0 } else { 3 }
}
