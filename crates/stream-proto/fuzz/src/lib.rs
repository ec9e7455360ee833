//! What the fuzz targets of `stream-proto` do with their input: a panic is a finding.
//!
//! | target | input | what must hold |
//! |---|---|---|
//! | [`decode()`] | any bytes | nothing panics; what decodes is the same after it was encoded |
//! | [`round_trip()`] | fields of messages and headers | an encoder and a decoder written from the specification agree with ours |
//! | [`operations()`] | calls on a pair of machines, and what the link between them does | no stream lies about loss; memory is bounded |
//! | [`hostile_peer()`] | calls on one machine, and messages from a peer without rules | its own stream is all that it harms |
//!
//! They are ordinary functions: libFuzzer calls them (`fuzz_targets/`), and so does the test over the corpus
//! (`tests/corpus.rs`). Input is read with a reader of our own instead of the crate `arbitrary`, so that the files of the
//! corpus keep their meaning whatever version of it comes.

#![forbid(unsafe_code)]

mod caller;
mod decode;
mod hostile_peer;
mod input;
mod operations;
mod responder;
mod round_trip;
mod wire;

pub use decode::decode;
pub use hostile_peer::hostile_peer;
pub use operations::operations;
pub use round_trip::round_trip;
