//! `natstream bench bus`: publishing to JetStream.

use std::time::Duration;

use clap::Args;

use super::bounds;
use super::publish::{Load, Mode, Published, publish};
use super::table::{self, Row};
use super::temporary::{StreamOptions, with_stream};
use super::workers;
use crate::bus::print;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::{duration, size};

const EXAMPLES: &str = "\
Examples:
  natstream bench bus
  natstream bench bus --mode async,fast --storage file --ids
  natstream bench bus --mode sync --replicas 3 --storage file
  natstream --json bench bus --window 4000 | jq .events_per_second

Each mode has a stream of its own, which is removed at the end, also after Ctrl-C. All events must be acked, and the stream must \
have as many: otherwise it is an error (exit code 8). The processor time is that of this process, without nats-server's.";

/// Events of a mode, unless it is set: a few seconds.
const COUNT: u64 = 300_000;

/// Each waits for the one before.
const COUNT_SYNC: u64 = 20_000;

/// Events under way, unless it is set.
const WINDOW: u64 = 1000;
const WINDOW_FAST: u64 = 4000;

/// Publish events to a stream of JetStream that is there for this only.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BusArgs {
    /// How to publish, a line for each.
    #[arg(
        long,
        value_enum,
        value_name = "MODE[,MODE]",
        value_delimiter = ',',
        default_value = "async,sync"
    )]
    mode: Vec<Mode>,
    /// Events of each mode [default: 300000, of sync 20000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// No event of a mode is published later [default: 10s, with --count no limit].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    duration: Option<Duration>,
    /// Bytes of each event.
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = size::parse)]
    size: u64,
    /// Events of a connection that may be under way [default: 1000, of fast 4000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    window: Option<u64>,
    /// Give the events ids by which the stream knows those that it has.
    #[arg(long)]
    ids: bool,
    /// Connections that publish, at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    #[command(flatten)]
    stream: StreamOptions,
}

/// Runs the command.
pub(super) async fn run(mut context: Context, args: BusArgs) -> Result<Exit, Failure> {
    // The first one keeps the stream.
    let connections = workers::connect(&mut context, args.connections.saturating_add(1)).await?;
    let mut rows = Vec::new();
    let mut times = None;
    let mut failure = None;
    for mode in &args.mode {
        let load = args.load(*mode);
        let console = context.console;
        let published = with_stream(
            &mut context,
            &connections[0],
            args.stream,
            *mode == Mode::Fast,
            async |stream| publish(&connections[1..], stream, load, console).await,
        );
        match published.await {
            Ok(published) => {
                rows.push(args.row(load, &published));
                if *mode == Mode::Sync {
                    times = Some(published.times);
                }
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    workers::close(&mut context, &connections).await;
    let is_json = context.console.is_json();
    let mut text = table::text(&rows, is_json);
    if let Some(times) = times
        && !is_json
    {
        text.push_str(&format!(
            "\none event, until it is acked: {}\n{}",
            times.text(),
            times.bars()
        ));
    }
    print(&mut context, &text).await?;
    match failure {
        Some(failure) => Err(failure),
        None => Ok(Exit::Complete),
    }
}

impl BusArgs {
    fn load(&self, mode: Mode) -> Load {
        let is_sync = mode == Mode::Sync;
        let window = if mode == Mode::Fast { WINDOW_FAST } else { WINDOW };
        let unless_set = if is_sync { COUNT_SYNC } else { COUNT };
        let (count, time) = bounds(self.count, self.duration, unless_set);
        Load {
            mode,
            count,
            time,
            size: self.size,
            window: self.window.unwrap_or(window),
            ids: self.ids,
        }
    }

    fn row(&self, load: Load, published: &Published) -> Row {
        let Published { spent, acked, .. } = published;
        let mode = match load.mode {
            Mode::Async => "async",
            Mode::Fast => "fast",
            Mode::Sync => "sync",
        };
        let row = Row::new("bus")
            .text("MODE", "mode", mode)
            .text("STORAGE", "storage", self.stream.storage())
            .count("EVENTS", "count", *acked)
            .rate("EVENTS/S", "events_per_second", spent.per_second(*acked))
            .spent(spent, *acked, acked.saturating_mul(load.size))
            .count("RETRIED", "retried", published.retried)
            .json_only("duplicates", published.duplicates)
            .json_only("size", load.size)
            .json_only("window", load.window)
            .json_only("ids", load.ids)
            .json_only("replicas", self.stream.replicas)
            .json_only("connections", self.connections);
        match load.mode {
            Mode::Sync => row.json_only("ack_us", published.times.json()),
            Mode::Async | Mode::Fast => row,
        }
    }
}
