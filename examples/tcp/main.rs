//! The protocol without NATS: both halves of a call over one TCP connection. The crate stream-proto knows neither sockets nor
//! time; `wire.rs` has both. `cargo run -p examples --example tcp`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod wire;

use std::io;

use natstream::proto::{Inbound, InboundConfig, Offer, Open, Outbound, OutboundConfig, PushError, Status, Transmit};
use tokio::net::{TcpListener, TcpStream};

use wire::{Clock, message, receive, send};

/// The numbers that the responder counts up to.
const COUNT: u32 = 100_000;

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let responder = tokio::spawn(async move { respond(listener.accept().await?.0).await });
    let numbers = call(TcpStream::connect(address).await?).await?;
    responder.await??;
    println!(
        "{} numbers, sum {}",
        numbers.len(),
        numbers.iter().map(|number| u64::from(*number)).sum::<u64>()
    );
    Ok(())
}

/// The caller: sends the Open, then gives every message to its half and every item to the user.
async fn call(stream: TcpStream) -> io::Result<Vec<u32>> {
    let (mut reader, mut writer) = stream.into_split();
    let clock = Clock::start();
    let mut inbound = Inbound::new(InboundConfig::default(), clock.now());
    send(&mut writer, &inbound.open().encode(), true, b"count, please").await?;
    let mut numbers = Vec::new();
    loop {
        while let Some(item) = inbound.poll_item(clock.now()) {
            numbers.push(u32::from_be_bytes(item[..].try_into().map_err(io::Error::other)?));
        }
        while let Some(transmit) = inbound.poll_transmit(clock.now()) {
            send(&mut writer, "", transmit.control, &transmit.payload).await?;
        }
        if let Some(termination) = inbound.termination() {
            return match termination.is_ok() {
                true => Ok(numbers),
                false => Err(io::Error::other(format!("{termination:?}"))),
            };
        }
        if let Some(framed) = receive(&mut reader, clock.until(inbound.poll_timeout())).await? {
            inbound.handle(clock.now(), &message(&framed));
        }
        inbound.handle_timeout(clock.now());
    }
}

/// The responder: answers the Open, pushes numbers while there is credit, and hands out messages.
async fn respond(stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let clock = Clock::start();
    let Some(request) = receive(&mut reader, None).await? else {
        return Ok(());
    };
    let Ok(Offer::Supported(open)) = Open::parse(&request.header) else {
        return Err(io::Error::other("no common version"));
    };
    // A stream id is a random number in real life: it tells streams apart.
    let mut outbound = Outbound::new(1, &open, &OutboundConfig::default(), clock.now());
    let answer = outbound.answer().encode();
    let mut next = 0;
    while !outbound.is_forgotten() {
        while next < COUNT {
            match outbound.push(&next.to_be_bytes()) {
                Ok(()) => next += 1,
                Err(PushError::Blocked) => {
                    outbound.wait_for_credit(clock.now());
                    break;
                }
                Err(_) => break,
            }
        }
        outbound.flush();
        if next == COUNT {
            outbound.finish(Status::ok());
        }
        while let Some(Transmit {
            header,
            control,
            payload,
            ..
        }) = outbound.poll_transmit(clock.now())
        {
            send(&mut writer, if header { &answer } else { "" }, control, &payload).await?;
        }
        if let Some(framed) = receive(&mut reader, clock.until(outbound.poll_timeout())).await? {
            outbound
                .handle(clock.now(), &message(&framed))
                .map_err(io::Error::other)?;
        }
        outbound.handle_timeout(clock.now());
    }
    Ok(())
}
