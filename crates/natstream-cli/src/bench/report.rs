//! What is printed of a run of calls.

use natstream::connect::ConnectionsStats;
use serde_json::{Value, json};

use super::drive::Ran;
use super::figures::Live;
use super::table::cost;
use crate::bus;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::services::format::short_count;
use crate::size;

/// A run that is over.
#[derive(Debug)]
pub(super) struct Report {
    /// `natstream bench NAME`.
    pub(super) name: &'static str,
    pub(super) ran: Ran,
}

/// Prints it, and says how the command ends.
pub(super) async fn print(context: &mut Context, report: Report) -> Result<Exit, Failure> {
    let text = match context.console.is_json() {
        true => format!("{}\n", report.json()),
        false => report.text(),
    };
    bus::print(context, &text).await?;
    match report.ran.figures.into_failure() {
        Some(failure) => Err(failure),
        None => Ok(Exit::Complete),
    }
}

impl Report {
    fn text(&self) -> String {
        let Ran {
            spent,
            items,
            bytes,
            figures,
            callers,
        } = &self.ran;
        let calls = figures.complete + figures.failed();
        let rows = [
            ("items", format!("{items}, {}/s", short_count(spent.per_second(*items)))),
            (
                "data",
                format!(
                    "{}, {}/s",
                    size::display(*bytes as f64),
                    size::display(spent.per_second(*bytes))
                ),
            ),
            (
                "calls",
                format!(
                    "{} complete, {} failed, {} under way at the end, {}/s",
                    figures.complete,
                    figures.failed(),
                    figures.stopped,
                    short_count(spent.per_second(figures.complete))
                ),
            ),
            ("first item", figures.first_item.text()),
            ("whole call", figures.whole.text()),
            (
                "processor",
                format!(
                    "{} an item, {} a call, {:.2} processors busy, both ends",
                    cost(spent.cpu_of_each(*items)),
                    cost(spent.cpu_of_each(calls)),
                    spent.processors()
                ),
            ),
            (
                "connections",
                format!(
                    "{} of {} up, {} dials, {} failed",
                    callers.up, callers.connections, callers.dials_ok, callers.dials_failed
                ),
            ),
        ];
        let mut text: String = rows
            .into_iter()
            .map(|(name, value)| format!("{name:<12} {value}\n"))
            .collect();
        for (kind, count) in &figures.failures {
            text.push_str(&format!("  failed     {count} {kind}\n"));
        }
        if figures.wrong > 0 {
            text.push_str(&format!("  failed     {} WRONG ITEMS\n", figures.wrong));
        }
        for (name, times) in [("first item", &figures.first_item), ("whole call", &figures.whole)] {
            if times.len() > 1 {
                text.push_str(&format!("\n{name}\n{}", times.bars()));
            }
        }
        text
    }

    fn json(&self) -> Value {
        let Ran {
            spent,
            items,
            bytes,
            figures,
            callers,
        } = &self.ran;
        json!({
            "bench": self.name,
            "seconds": spent.time.as_secs_f64(),
            "items": items,
            "bytes": bytes,
            "items_per_second": spent.per_second(*items),
            "bytes_per_second": spent.per_second(*bytes),
            "calls_per_second": spent.per_second(figures.complete),
            "cpu_seconds": spent.cpu.as_secs_f64(),
            "cpu_ns_each": spent.cpu_of_each(*items),
            "complete": figures.complete,
            "failed": figures.failed(),
            "under_way": figures.stopped,
            "wrong": figures.wrong,
            "failures": figures.failures,
            "first_item_us": figures.first_item.json(),
            "whole_call_us": figures.whole.json(),
            "connections": callers.connections,
            "up": callers.up,
            "dials_ok": callers.dials_ok,
            "dials_failed": callers.dials_failed,
        })
    }
}

/// A line while it runs.
pub(super) fn progress(second: u64, items: u64, callers: &ConnectionsStats, live: &Live) -> String {
    let servers: Vec<String> = callers
        .servers
        .iter()
        .map(|server| {
            let name = server.server.rsplit('/').next().unwrap_or(&server.server);
            format!("{name} {} calls on {}", server.in_flight, server.up)
        })
        .collect();
    format!(
        "{second} s: {} items/s, {} so far; {}",
        short_count(items as f64),
        short_count(live.items() as f64),
        servers.join(", ")
    )
}
