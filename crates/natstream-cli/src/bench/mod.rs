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
mod publisher;
mod report;
mod seen;
mod sink;
mod spent;
mod stream;
mod table;
mod temporary;
mod workers;

use std::time::Duration;

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

/// How long a load takes that nobody has bounded.
const TIME: Duration = Duration::from_secs(10);

/// How many and how long: a number that was asked for is not cut short by the clock that nobody has set.
fn bounds(count: Option<u64>, time: Option<Duration>, unless_set: u64) -> (u64, Option<Duration>) {
    match (count, time) {
        (Some(count), time) => (count, time),
        // A time that was asked for is not cut short by a number.
        (None, Some(time)) => (u64::MAX, Some(time)),
        (None, None) => (unless_set, Some(TIME)),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_not_cut_short() {
        let second = Duration::from_secs(1);
        assert_eq!(bounds(None, None, 7), (7, Some(TIME)));
        assert_eq!(bounds(Some(1), None, 7), (1, None));
        assert_eq!(bounds(None, Some(second), 7), (u64::MAX, Some(second)));
        assert_eq!(bounds(Some(1), Some(second), 7), (1, Some(second)));
    }
}
