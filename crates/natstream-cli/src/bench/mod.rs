//! `natstream bench`: load on this NATS, and how it went.

mod figures;
mod load;
mod report;
mod stream;

use clap::{Args, Subcommand};

use crate::exit::{Exit, Failure};
use crate::program::Context;

/// Put load on this NATS, and measure it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  natstream bench stream --duration 10s")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    Stream(stream::StreamArgs),
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: BenchArgs) -> Result<Exit, Failure> {
    match args.command {
        BenchCommand::Stream(args) => stream::run(context, args).await,
    }
}
