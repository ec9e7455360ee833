//! Slow readers beside fast ones.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use testkit::NatsServer;

use crate::machine::Origin;
use crate::options::positive;
use crate::pair::{Cost, Pair, Set, each};
use crate::peers::Peer;
use crate::peers::caller::{Beside, Task};
use crate::report::{Cell, Report, Spread, Table};
use crate::role::Done;
use crate::rounds::rounds;

/// Slow readers beside fast ones on one connection, beside async-nats and tonic (with the feature `peers`).
#[derive(Args, Debug, Serialize)]
pub(crate) struct Options {
    /// Fast readers.
    #[arg(long, default_value_t = 2, value_parser = positive::<usize>)]
    fast: usize,
    /// Items of each; async-nats gets a fourth of them.
    #[arg(long, default_value_t = 2_000_000, value_parser = positive::<u64>)]
    fast_items: u64,
    /// Readers that sleep 1 ms after every 100 items.
    #[arg(long, default_value_t = 2, value_parser = positive::<usize>)]
    slow: usize,
    /// Items of each.
    #[arg(long, default_value_t = 150_000, value_parser = positive::<u64>)]
    slow_items: u64,
    /// Bytes of an item.
    #[arg(long, default_value_t = 128, value_parser = positive::<usize>)]
    size: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 2, value_parser = positive::<usize>)]
    rounds: usize,
}

const CASES: [(&str, bool, bool); 3] = [
    ("fast alone", true, false),
    ("slow alone", false, true),
    ("slow beside fast", true, true),
];

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let nats = NatsServer::start().await;
    let about = "Readers that pause, alone and beside such that do not, all on one connection; peers take turns.";
    let mut report = Report::new("slow", about, options, Origin::now(Some(&nats.url())).await?);
    report.peers = Peer::settings(Peer::STREAMS);
    report.peers.push(
        "async-nats, default capacity: the same with 65,536 messages a subscription, as most users have it".to_owned(),
    );
    let mut pairs = Pair::all(&nats, Peer::STREAMS).await?;
    let set = Set {
        has_default_capacity: true,
        ..Set::default()
    };
    pairs.push(Pair::start(&nats, Peer::AsyncNats, set).await?);
    let names: Vec<String> = Peer::STREAMS.iter().map(ToString::to_string).collect();
    let names: Vec<String> = names
        .into_iter()
        .chain(["async-nats, default capacity".to_owned()])
        .collect();

    let mut table = Table::new(
        "Slow readers beside fast ones",
        [
            ("readers", 0),
            ("", 0),
            ("fast M items/s", 2),
            ("fast lost %", 1),
            ("slow k items/s", 0),
            ("slow lost %", 1),
            ("caller grown MiB", 1),
            ("responder grown MiB", 1),
            ("nats-server grown MiB", 1),
        ],
    )
    .note("Rates are of all fast and all slow readers. Lost: what was sent and never came, which async-nats tells nobody.");
    for (case, has_fast, has_slow) in CASES {
        let measured = rounds(options.rounds, pairs.len(), async |pair| {
            measure(&mut pairs[pair], options, has_fast, has_slow).await
        })
        .await?;
        for (name, rounds) in names.iter().zip(&measured) {
            let rate = |of: fn(&Beside) -> Done, factor| Spread::by(rounds, factor, |round| of(&round.0).rate());
            let costs: Vec<Cost> = rounds.iter().map(|round| round.1).collect();
            let lost = |reader: usize| Spread::by(rounds, 100.0, |round| round.2[reader]);
            let mut row = vec![
                Cell::from(case),
                name.as_str().into(),
                has_fast.then(|| rate(|beside| beside.fast, 1e-6)).into(),
                has_fast.then(|| lost(0)).into(),
                has_slow.then(|| rate(|beside| beside.slow, 1e-3)).into(),
                has_slow.then(|| lost(1)).into(),
            ];
            row.extend(each(&costs, 1.0 / f64::from(1 << 20), |cost| cost.grown).map(Cell::from));
            table.row(row);
        }
    }
    report.tables = vec![table];
    Ok(report)
}

/// What came, what it cost, and the shares of the fast and the slow items that were lost.
async fn measure(
    pair: &mut Pair,
    options: &Options,
    has_fast: bool,
    has_slow: bool,
) -> Result<(Beside, Cost, [f64; 2])> {
    let share = if pair.peer == Peer::AsyncNats { 4 } else { 1 };
    let fast = if has_fast { options.fast } else { 0 };
    let slow = if has_slow { options.slow } else { 0 };
    let task = Task::Beside {
        fast,
        fast_items: options.fast_items / share,
        slow,
        slow_items: options.slow_items,
        size: options.size,
    };
    let sum = |beside: &Beside| Done {
        items: beside.fast.items + beside.slow.items,
        seconds: beside.fast.seconds.max(beside.slow.seconds),
    };
    let (beside, cost): (Beside, Cost) = pair.cost(&task, sum).await?;
    let lost = |readers: usize, items: u64, done: Done| {
        let sent = (readers as u64 * items).max(1) as f64;
        (1.0 - done.items as f64 / sent).max(0.0)
    };
    let lost = [
        lost(fast, options.fast_items / share, beside.fast),
        lost(slow, options.slow_items, beside.slow),
    ];
    Ok((beside, cost, lost))
}
