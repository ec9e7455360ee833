//! Writers of files that die: killed, cut off anywhere, without power. What their sync mode has promised is there, nothing
//! is there twice, and nothing is torn.
//!
//! `NATSTREAM_KILLS` is the number of kills (12), `NATSTREAM_SEED` repeats a run. With either, which is the long form, files
//! are cut at every byte. The crate `stream-sinks` tests more of the loss of power without threads, call by call.

mod cuts;
mod kills;
mod power;
