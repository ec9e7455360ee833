//! Every input of the checked-in corpus, on the stable compiler and without libFuzzer.
//!
//! A file that `cargo xtask fuzz` found is a regression test as soon as it lies in `corpus/TARGET/`.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

/// Runs `target` over its corpus, and names every file that it fails on.
fn replay(name: &str, target: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    let mut failed = Vec::new();
    for path in paths {
        let data = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if catch_unwind(|| target(&data)).is_err() {
            failed.push(path);
        }
    }
    assert!(failed.is_empty(), "{name} fails on {failed:#?}");
}

#[test]
fn decode() {
    replay("decode", stream_proto_fuzz::decode);
}

#[test]
fn hostile_peer() {
    replay("hostile_peer", stream_proto_fuzz::hostile_peer);
}

#[test]
fn operations() {
    replay("operations", stream_proto_fuzz::operations);
}

#[test]
fn round_trip() {
    replay("round_trip", stream_proto_fuzz::round_trip);
}
