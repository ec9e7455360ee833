//! `natstream bench latency`: how long calls take.

use std::time::Duration;

use clap::Args;

use super::bounds;
use super::drive::{Plan, Until, drive};
use super::ends::Ends;
use super::load::{Order, item_size};
use super::report::{self, Report};
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::program::Context;

const EXAMPLES: &str = "\
Examples:
  natstream bench latency
  natstream bench latency --callers 64 --items 16
  natstream --json bench latency --calls 1000 | jq .first_item_us.p99

The time of a call begins before its request is sent. Its first item has come when the caller has it in its hands, and the \
whole call is over when the caller has read its end. A caller makes one call after the other. Callers and responders are in \
this process, on connections of their own.";

/// Calls, unless it is set.
const CALLS: u64 = 20_000;

/// Measure how long calls take: until their first item, and until their end.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LatencyArgs {
    /// Calls of all callers together [default: 20000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    calls: Option<u64>,
    /// No call begins later [default: 10s, with --calls no limit].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    duration: Option<Duration>,
    /// Callers at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    callers: u32,
    /// Items of each call.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    items: u64,
    /// Bytes of each item, at least 8.
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = item_size)]
    size: u64,
    /// Connections of the callers to each server [default: the configured connections_per_server, or 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: Option<u16>,
}

/// Runs the command.
pub(super) async fn run(mut context: Context, args: LatencyArgs) -> Result<Exit, Failure> {
    let order = Order {
        items: args.items,
        size: args.size,
    };
    let plan = |callers: u64, calls, time| Plan {
        callers,
        order,
        window: None,
        until: Until::Calls(calls, time),
    };
    let (calls, time) = bounds(args.calls, args.duration, CALLS);
    let callers = args.callers.into();
    let ends = Ends::open(&mut context, args.connections).await?;
    // Those that come first pay for what is set up once.
    let outcome = match drive(&mut context, &ends, &plan(callers, callers.saturating_mul(2), time)).await {
        Ok(warm) if warm.figures.failed() > 0 => Ok(warm),
        Ok(_) => drive(&mut context, &ends, &plan(callers, calls, time)).await,
        Err(failure) => Err(failure),
    };
    ends.close(&mut context).await;
    let report = Report {
        name: "latency",
        ran: outcome?,
    };
    report::print(&mut context, report).await
}
