//! How long calls take.

use anyhow::Result;
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use testkit::NatsServer;

use crate::machine::Origin;
use crate::options::positive;
use crate::pair::{Cost, Pair};
use crate::peers::Peer;
use crate::peers::caller::{Calls, Task};
use crate::report::{Cell, Plot, Report, Spread, Table};
use crate::rounds::rounds;

/// The first item of a call, and calls of 16 items of many callers, beside request() and tonic (with the feature `peers`).
#[derive(Args, Debug, Serialize)]
pub(crate) struct Options {
    /// Calls of one item, one after the other, in a round.
    #[arg(long, default_value_t = 5_000, value_parser = positive::<u64>)]
    calls: u64,
    /// Calls of several items in a round, those of all callers together.
    #[arg(long, default_value_t = 50_000, value_parser = positive::<u64>)]
    many: u64,
    /// Items of each of these.
    #[arg(long, default_value_t = 16, value_parser = positive::<u64>)]
    items: u64,
    /// Callers at a time.
    #[arg(long, value_delimiter = ',', default_value = "1,8,64,512", value_parser = positive::<usize>)]
    callers: Vec<usize>,
    /// Bytes of an item.
    #[arg(long, default_value_t = 128, value_parser = positive::<usize>)]
    size: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 5, value_parser = positive::<usize>)]
    rounds: usize,
}

/// One round.
struct Round {
    cost: Cost,
    first: Histogram<u64>,
    whole: Histogram<u64>,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let nats = NatsServer::start().await;
    let about = "Calls with a request of 128 B: how long until their first item and their end; peers take turns.";
    let mut report = Report::new("latency", about, options, Origin::now(Some(&nats.url())).await?);
    report.peers = Peer::settings(Peer::CALLS);
    let mut pairs = Pair::all(&nats, Peer::CALLS).await?;

    let task = Task::Calls {
        callers: 1,
        calls: options.calls,
        items: 1,
        size: options.size,
    };
    let measured = rounds(options.rounds, pairs.len(), async |peer| {
        measure(&mut pairs[peer], &task).await
    })
    .await?;
    let mut table = table("The first item of a call, one call after the other", &[]);
    let mut plot = Plot::new("The first item of a call", "µs", "share of the calls, %");
    add(&mut table, &mut plot, None, &measured, |round| &round.first);
    report.tables.push(table);
    report.plots.push(plot);

    let title = format!("Calls of {} items until their end", options.items);
    let mut table = self::table(&title, &[("callers", 0), ("k calls/s", 1), ("CPU µs/call, all", 1)]);
    for callers in &options.callers {
        let task = Task::Calls {
            callers: *callers,
            // One caller needs longer for each.
            calls: if *callers == 1 {
                options.many.div_ceil(10)
            } else {
                options.many
            },
            items: options.items,
            size: options.size,
        };
        let measured = rounds(options.rounds, pairs.len(), async |peer| {
            measure(&mut pairs[peer], &task).await
        })
        .await?;
        let title = format!("Calls of {} items, {callers} callers", options.items);
        let mut plot = Plot::new(title, "µs", "share of the calls, %");
        add(&mut table, &mut plot, Some(*callers), &measured, |round| &round.whole);
        report.plots.push(plot);
    }
    report.tables.push(table);
    Ok(report)
}

async fn measure(pair: &mut Pair, task: &Task) -> Result<Round> {
    let (calls, cost): (Calls, Cost) = pair.cost(task, |calls: &Calls| calls.done).await?;
    Ok(Round {
        cost,
        first: histogram(&calls.first)?,
        whole: histogram(&calls.whole)?,
    })
}

fn histogram(recorded: &[(u64, u64)]) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::new(3)?;
    for (value, count) in recorded {
        histogram.record_n(*value, *count)?;
    }
    Ok(histogram)
}

const SHARES: [(f64, &str); 4] = [(0.5, "p50 µs"), (0.9, "p90 µs"), (0.99, "p99 µs"), (0.999, "p99.9 µs")];

fn table(title: &str, more: &[(&str, usize)]) -> Table {
    let mut columns = vec![("", 0)];
    columns.extend(more);
    columns.extend(SHARES.map(|(_, name)| (name, 0)));
    columns.push(("natstream's p50 to it", 2));
    columns.push(("natstream's calls/s to it", 2));
    Table::new(title, columns).note("tonic has no broker: one hop each way instead of two.")
}

/// A row and a line for each peer.
fn add(
    table: &mut Table,
    plot: &mut Plot,
    callers: Option<usize>,
    measured: &[Vec<Round>],
    of: fn(&Round) -> &Histogram<u64>,
) {
    for (peer, rounds) in Peer::CALLS.iter().zip(measured) {
        let at = |share| move |round: &Round| of(round).value_at_quantile(share) as f64;
        let mut row: Vec<Cell> = vec![peer.to_string().into()];
        if let Some(callers) = callers {
            row.push(callers.into());
            row.push(Spread::by(rounds, 1e-3, |round| round.cost.rate).into());
            row.push(Spread::by(rounds, 1e-3, |round| round.cost.cpu_of_all()).into());
        }
        row.extend(SHARES.map(|(share, _)| Spread::by(rounds, 1e-3, at(share)).into()));
        if *peer == Peer::Natstream {
            row.extend([Cell::None(()), Cell::None(())]);
        } else {
            row.push(Spread::ratio(&measured[0], rounds, at(0.5)).into());
            row.push(Spread::ratio(&measured[0], rounds, |round| round.cost.rate).into());
        }
        table.row(row);
        plot.line(peer.to_string(), shares(rounds.iter().map(of)));
    }
}

/// How many of a hundred calls took so many µs, in steps of a tenth of it.
fn shares<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Vec<(f64, f64)> {
    let mut sum: Option<Histogram<u64>> = None;
    for histogram in histograms {
        match &mut sum {
            // It grows as it must.
            Some(sum) => drop(sum.add(histogram)),
            None => sum = Some(histogram.clone()),
        }
    }
    let Some(sum) = sum else {
        return Vec::new();
    };
    let all = sum.len() as f64;
    let steps = sum.iter_log(10_000, 1.1);
    let steps = steps.map(|step| {
        let count = step.count_since_last_iteration() as f64;
        (step.value_iterated_to() as f64 / 1e3, count * 100.0 / all)
    });
    // A tenth of a percent in a step is all that can be seen.
    steps.filter(|(_, share)| *share > 0.05).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_a_hundred() {
        let histogram = histogram(&[(100_000, 3), (200_000, 1)]).unwrap();
        let shares = shares([&histogram].into_iter());
        assert_eq!(shares.len(), 2);
        assert_eq!(shares.iter().map(|(_, share)| share).sum::<f64>(), 100.0);
    }
}
