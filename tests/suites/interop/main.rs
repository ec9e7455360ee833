//! Clients of others, in the dialects that they speak, and an implementation of the native one that was written from the
//! specification alone, with the program `natstream`: each in a process of its own.
//!
//! The peers lie in `tests/interop`; `cargo xtask setup` provides what they need.

mod call;
mod independent;
mod peer;
mod sentinel;
mod serve;
mod services;
