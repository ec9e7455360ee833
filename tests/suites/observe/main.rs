//! What can be seen of calls and events from outside: spans, traces, logs and metrics.

mod figures;
mod ready;
mod seen;
mod silence;
mod spans;
mod traces;
