//! The tables.

use super::publisher::Publisher;
use super::{Round, Way};
use crate::options::Storage;
use crate::report::{Cell, Spread, Table};

/// A way, and its rounds.
type Measured<'a> = (&'a Way, &'a [Round]);

/// One table for each storage, with ids and without, and those of batches.
pub(super) fn compare(ways: &[Way], rounds: &[Vec<Round>]) -> Vec<Table> {
    let mut tables = Vec::new();
    for storage in Storage::ALL {
        for ids in [false, true] {
            let of = |publisher| -> Vec<Measured<'_>> {
                let all = ways.iter().zip(rounds.iter().map(Vec::as_slice));
                all.filter(|(way, _)| way.storage == storage && way.ids == ids && way.publisher == publisher)
                    .collect()
            };
            let with = if ids { "with ids" } else { "without ids" };
            let title = format!("{storage:?}, {with}");
            let (ours, theirs) = (of(Publisher::Natstream), of(Publisher::AsyncNats));
            let batches = [of(Publisher::Fast), of(Publisher::Atomic)].concat();
            if let (Some(best), Some(their_best)) = (best(&ours), best(&theirs)) {
                let ratio = rate(best).median / rate(their_best).median;
                tables.push(windows(&title, &ours, &theirs).note(format!("Best window to best window: {ratio:.2}×.")));
                let beside = format!("{title}, in batches, beside async-nats's best window");
                tables.push(besides(beside, &batches, their_best));
                let outboxes = [of(Publisher::Outbox), of(Publisher::OutboxPower)].concat();
                let window = outboxes.first().map(|(way, _)| way.window);
                if let Some((_, bus)) = ours.iter().find(|(way, _)| Some(way.window) == window) {
                    let beside = format!("{title}, through an outbox, beside the bus with the same window");
                    tables.push(besides(beside, &outboxes, bus));
                }
            }
        }
    }
    tables
}

fn rate(rounds: &[Round]) -> Spread {
    Spread::by(rounds, 1e-3, |round| round.rate)
}

fn cpu(rounds: &[Round]) -> Spread {
    Spread::by(rounds, 1.0, |round| round.each.client_cpu_ns)
}

/// The rounds of the fastest window.
fn best<'a>(of: &[Measured<'a>]) -> Option<&'a [Round]> {
    let pipelined = of
        .iter()
        .filter(|(way, _)| way.window.is_some())
        .map(|(_, rounds)| *rounds);
    pipelined.max_by(|a, b| rate(a).median.total_cmp(&rate(b).median))
}

fn windows(title: &str, ours: &[Measured<'_>], theirs: &[Measured<'_>]) -> Table {
    let mut table = Table::new(
        title,
        [
            ("window", 0),
            ("natstream k/s", 0),
            ("async-nats k/s", 0),
            ("ratio", 2),
            ("client CPU ns", 0),
            ("async-nats", 0),
            ("ratio", 2),
            ("server CPU ns", 0),
            ("async-nats", 0),
            ("allocations", 2),
            ("async-nats", 2),
        ],
    );
    for ((way, ours), (_, theirs)) in ours.iter().zip(theirs) {
        let name = way.window.map_or_else(
            || {
                let p50 = |rounds: &[Round]| Spread::by(rounds, 1.0, |round| round.latency.unwrap_or(0.0)).median;
                format!("one by one (p50 {:.0} and {:.0} µs)", p50(ours), p50(theirs))
            },
            |window| window.to_string(),
        );
        let both =
            |figure: fn(&Round) -> f64| [ours, theirs].map(|rounds| Cell::from(Spread::by(rounds, 1.0, figure).median));
        let mut row = vec![Cell::from(name), rate(ours).into(), rate(theirs).into()];
        row.push(Spread::ratio(ours, theirs, |round| round.rate).into());
        row.extend([cpu(ours).into(), cpu(theirs).into()]);
        row.push(Spread::ratio(ours, theirs, |round| round.each.client_cpu_ns).into());
        row.extend(both(|round| round.each.server_cpu_ns));
        row.extend(both(|round| round.each.allocations));
        table.row(row);
    }
    table
}

/// These beside one other.
fn besides(title: String, these: &[Measured<'_>], other: &[Round]) -> Table {
    let mut table = Table::new(
        title,
        [
            ("", 0),
            ("k/s", 0),
            ("ratio", 2),
            ("client CPU ns", 0),
            ("ratio", 2),
            ("server CPU ns", 0),
            ("allocations", 2),
        ],
    );
    for (way, rounds) in these {
        let window = way.window.unwrap_or(0);
        let name = match way.publisher {
            Publisher::Fast => format!("fast ingest, window {window}"),
            Publisher::Outbox => format!("outbox, level process, window {window}"),
            Publisher::OutboxPower => format!("outbox, level power, window {window}"),
            _ => format!("atomic, {window} events"),
        };
        table.row([
            Cell::from(name),
            rate(rounds).into(),
            Spread::ratio(rounds, other, |round| round.rate).into(),
            cpu(rounds).into(),
            Spread::ratio(rounds, other, |round| round.each.client_cpu_ns).into(),
            Spread::by(rounds, 1.0, |round| round.each.server_cpu_ns).into(),
            Spread::by(rounds, 1.0, |round| round.each.allocations).into(),
        ]);
    }
    table
}
