//! Clients of others, in the dialects that they speak, with the program `natstream`: each in a process of its own.
//!
//! The peers lie in `tests/interop`; `cargo xtask setup` provides what they need.

mod call;
mod peer;
mod sentinel;
mod serve;
mod services;
