//! `natstream bench concurrency`: many streams at once.

use clap::Args;

use super::drive::{Plan, Ran, Until, drive};
use super::ends::Ends;
use super::load::{Order, item_size};
use super::table::{self, Row};
use crate::bus::print;
use crate::exit::{Exit, Failure};
use crate::program::Context;

const EXAMPLES: &str = "\
Examples:
  natstream bench concurrency
  natstream bench concurrency --streams 100,1000 --connections 4
  natstream --json bench concurrency --streams 10000 --items 100000

All streams of a line are open at the same time: each waits behind its first item until all have theirs. They share the items: \
the more streams, the fewer has each. FIRST is the time until the first item, when all ask at once.";

/// Measure many streams at once, all of which are open at the same time.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConcurrencyArgs {
    /// Streams at a time, a line for each number.
    #[arg(
        long,
        value_name = "N[,N]",
        value_delimiter = ',',
        default_value = "1,10,100,1000,10000",
        value_parser = clap::value_parser!(u64).range(1..=100_000)
    )]
    streams: Vec<u64>,
    /// Items of a line, those of all streams together; each has one at least.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    items: u64,
    /// Bytes of each item, at least 8.
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = item_size)]
    size: u64,
    /// Connections of the callers to each server [default: the configured connections_per_server, or 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: Option<u16>,
}

/// Runs the command.
pub(super) async fn run(mut context: Context, args: ConcurrencyArgs) -> Result<Exit, Failure> {
    let ends = Ends::open(&mut context, args.connections).await?;
    let mut rows = Vec::new();
    let mut failure = None;
    for streams in &args.streams {
        let order = Order {
            items: args.items.div_ceil(*streams),
            size: args.size,
        };
        let plan = Plan {
            callers: *streams,
            order,
            window: None,
            until: Until::Once,
        };
        match drive(&mut context, &ends, &plan).await {
            Ok(ran) => {
                rows.push(row(*streams, order, &ran));
                failure = ran.figures.into_failure();
            }
            Err(interrupted) => failure = Some(interrupted),
        }
        if failure.is_some() {
            break;
        }
    }
    ends.close(&mut context).await;
    let text = table::text(&rows, context.console.is_json());
    print(&mut context, &text).await?;
    match failure {
        Some(failure) => Err(failure),
        None => Ok(Exit::Complete),
    }
}

fn row(streams: u64, order: Order, ran: &Ran) -> Row {
    let Ran { spent, figures, .. } = ran;
    Row::new("concurrency")
        .count("STREAMS", "streams", streams)
        .count("ITEMS", "items", ran.items)
        .rate("ITEMS/S", "items_per_second", spent.per_second(ran.items))
        .rate("STREAMS/S", "streams_per_second", spent.per_second(figures.complete))
        .spent(spent, ran.items, ran.bytes)
        .micros("FIRST P50", "first_item_p50_us", figures.first_item.at(0.5))
        .micros("P99", "first_item_p99_us", figures.first_item.at(0.99))
        .count("COMPLETE", "complete", figures.complete)
        .count("FAILED", "failed", figures.failed())
        .json_only("items_of_each", order.items)
        .json_only("size", order.size)
        .json_only("first_item_us", figures.first_item.json())
        .json_only("whole_call_us", figures.whole.json())
}
