//! Throughput of one stream, beside everybody else's.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use testkit::NatsServer;

use crate::machine::Origin;
use crate::options::positive;
use crate::pair::{Cost, Pair, each};
use crate::peers::Peer;
use crate::report::{Cell, Report, Spread, Table};
use crate::rounds::rounds;

/// One stream beside async-nats, tonic (with the feature `peers`) and a raw client.
#[derive(Args, Debug, Serialize)]
pub(crate) struct Options {
    /// Items of a call.
    #[arg(long, default_value_t = 4_000_000, value_parser = positive::<u64>)]
    items: u64,
    /// Bytes of an item.
    #[arg(long, default_value_t = 128, value_parser = positive::<usize>)]
    size: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 7, value_parser = positive::<usize>)]
    rounds: usize,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let nats = NatsServer::start().await;
    let about = "One call of many items, read as fast as they come; peers take turns.";
    let mut report = Report::new("stream", about, options, Origin::now(Some(&nats.url())).await?);
    report.peers = Peer::settings(Peer::ALL);
    let mut pairs = Pair::all(&nats, Peer::ALL).await?;
    let measured = rounds(options.rounds, pairs.len(), async |peer| {
        pairs[peer].streams(1, options.items, options.size).await
    })
    .await?;
    report.tables = vec![throughput(&measured), memory(&measured)];
    Ok(report)
}

fn throughput(measured: &[Vec<Cost>]) -> Table {
    let mut table = Table::new(
        "Throughput and processor time",
        [
            ("", 0),
            ("M items/s", 2),
            ("natstream to it", 2),
            ("CPU ns/item, all", 0),
            ("natstream to it", 2),
            ("caller", 0),
            ("responder", 0),
            ("nats-server", 0),
        ],
    )
    .note("Ratios are those of the same round. Processor time is read in steps of 10 ms.");
    for (peer, rounds) in Peer::ALL.iter().zip(measured) {
        let ratio =
            |figure: fn(&Cost) -> f64| (*peer != Peer::Natstream).then(|| Spread::ratio(&measured[0], rounds, figure));
        let mut row: Vec<Cell> = vec![
            peer.to_string().into(),
            Spread::by(rounds, 1e-6, |cost| cost.rate).into(),
            ratio(|cost| cost.rate).into(),
            Spread::by(rounds, 1.0, Cost::cpu_of_all).into(),
            ratio(Cost::cpu_of_all).into(),
        ];
        row.extend(each(rounds, 1.0, |cost| cost.cpu_ns).map(Cell::from));
        table.row(row);
    }
    table
}

fn memory(measured: &[Vec<Cost>]) -> Table {
    let mut table = Table::new(
        "Memory",
        [
            ("", 0),
            ("caller allocations/item", 3),
            ("responder allocations/item", 3),
            ("caller peak MiB", 1),
            ("responder peak MiB", 1),
            ("nats-server peak MiB", 1),
        ],
    )
    .note("nats-server is the same for all; it keeps what it has once had.");
    for (peer, rounds) in Peer::ALL.iter().zip(measured) {
        let mut row: Vec<Cell> = vec![peer.to_string().into()];
        row.extend(each(rounds, 1.0, |cost| cost.allocations).map(Cell::from));
        row.extend(each(rounds, 1.0 / f64::from(1 << 20), |cost| cost.peak).map(Cell::from));
        table.row(row);
    }
    table
}
