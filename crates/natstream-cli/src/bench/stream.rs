//! `natstream bench stream`: calls whose items are numbered, one after another on each of several tasks.

use std::time::Duration;

use clap::Args;

use super::drive::{Plan, Until, drive};
use super::ends::Ends;
use super::load::{Order, item_size};
use super::report::{self, Report};
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::{duration, size};

const EXAMPLES: &str = "\
Examples:
  natstream bench stream
  natstream bench stream --calls 1 --window 64KiB --duration 3s
  natstream -s A,B,C bench stream --connections 4 --duration 1m

Every item carries its number, and the callers check each one. A call that fails, or an item that is not the right one, is an \
error. Responders and callers are in this process, on connections of their own: one responder on each server. The processor \
time is that of both.";

/// Stream numbered items from responders to callers, both in this process.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StreamArgs {
    /// Connections of the callers to each server [default: the configured connections_per_server, or 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: Option<u16>,
    /// Calls that run at a time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    calls: u32,
    /// Items of each call.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    items: u64,
    /// Bytes of each item, at least 8.
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = item_size)]
    size: u64,
    /// Largest window of a call: what may be under way [default: as the library finds it].
    #[arg(long, value_name = "SIZE", value_parser = size::parse_window)]
    window: Option<u64>,
    /// How long new calls are made.
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = duration::parse_positive)]
    duration: Duration,
}

/// Runs the command.
pub(super) async fn run(mut context: Context, args: StreamArgs) -> Result<Exit, Failure> {
    let plan = Plan {
        callers: args.calls.into(),
        order: Order {
            items: args.items,
            size: args.size,
        },
        window: args.window,
        until: Until::Time(args.duration),
    };
    let ends = Ends::open(&mut context, args.connections).await?;
    let outcome = drive(&mut context, &ends, &plan).await;
    ends.close(&mut context).await;
    let report = Report {
        name: "stream",
        ran: outcome?,
    };
    report::print(&mut context, report).await
}
