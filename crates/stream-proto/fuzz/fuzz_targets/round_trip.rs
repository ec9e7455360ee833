//! libFuzzer's way into [`stream_proto_fuzz::round_trip`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stream_proto_fuzz::round_trip(data));
