//! Runs the program, and waits for what it does.

pub(crate) use testkit::program::{LIMIT, Run, Serving, end, finish, is_gone, natstream, run, signal, until};
