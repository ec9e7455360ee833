//! The programs beside this file show one idea each: `cargo run -p examples --example count`.
