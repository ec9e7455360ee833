//! The test vectors of `docs/vectors`, which an independent program has written from `docs/protocol.md`.
//!
//! They are checked through the public API only.

mod exchanges;
mod messages;
mod reading;
