//! `natstream bench`: load on this NATS, and how it went.

mod bus;
mod concurrency;
mod consume;
mod drive;
mod ends;
mod figures;
mod gate;
mod histogram;
mod latency;
mod load;
mod publish;
mod report;
mod seen;
mod sink;
mod spent;
mod stream;
mod table;
mod temporary;
mod workers;

use clap::{Args, Subcommand};

use crate::exit::{Exit, Failure};
use crate::program::Context;

const EXAMPLES: &str = "\
Examples:
  natstream bench latency
  natstream -s nats://nats.example.com bench stream --duration 30s
  natstream --json bench bus --storage file

Nothing is left behind: streams and files have names of their own, and are removed at the end, also after Ctrl-C. A figure is \
printed of what has come and was checked; whatever is missing is an error.";

/// Put load on this NATS, and measure it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    Bus(bus::BusArgs),
    Concurrency(concurrency::ConcurrencyArgs),
    Consume(consume::ConsumeArgs),
    Latency(latency::LatencyArgs),
    Sink(sink::SinkArgs),
    Stream(stream::StreamArgs),
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: BenchArgs) -> Result<Exit, Failure> {
    match args.command {
        BenchCommand::Bus(args) => bus::run(context, args).await,
        BenchCommand::Concurrency(args) => concurrency::run(context, args).await,
        BenchCommand::Consume(args) => consume::run(context, args).await,
        BenchCommand::Latency(args) => latency::run(context, args).await,
        BenchCommand::Sink(args) => sink::run(context, args).await,
        BenchCommand::Stream(args) => stream::run(context, args).await,
    }
}
