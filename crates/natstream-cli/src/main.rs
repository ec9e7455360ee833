//! The `natstream` program; see the library `natstream_cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    natstream_cli::main(std::env::args_os())
}
