//! What a stream costs that carries nothing.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use testkit::NatsServer;

use crate::machine::Origin;
use crate::options::positive;
use crate::pair::{Pair, Set};
use crate::peers::Peer;
use crate::peers::caller::Task;
use crate::report::{Cell, Plot, Report, Spread, Table};
use crate::rounds::rounds;

/// Memory of idle streams in each process, beside async-nats and tonic (with the feature `peers`).
#[derive(Args, Debug, Serialize)]
pub(crate) struct Options {
    /// Streams, opened beside as many others.
    #[arg(long, default_value_t = 10_000, value_parser = positive::<usize>)]
    streams: usize,
    /// Rounds that count, each with new processes.
    #[arg(long, default_value_t = 3, value_parser = positive::<usize>)]
    rounds: usize,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let about = "Streams that have had one item and stay open. As many are opened before, so that what is allocated once \
                 does not count.";
    let nats = NatsServer::start().await;
    let mut report = Report::new("idle", about, options, Origin::now(Some(&nats.url())).await?);
    drop(nats);
    report.peers = Peer::settings(Peer::STREAMS);
    let measured = rounds(options.rounds, Peer::STREAMS.len(), async |peer| {
        idle(Peer::STREAMS[peer], options.streams).await
    })
    .await?;
    let mut table = Table::new(
        "Bytes of an idle stream",
        [("", 0), ("caller B", 0), ("responder B", 0), ("nats-server B", 0), ("together B", 0)],
    )
    .note("The responders of natstream and tonic hold a handler that waits for the caller to leave; that of async-nats holds nothing.");
    let mut plot = Plot::new("Memory of idle streams", "streams", "MiB, all processes").log();
    for (peer, rounds) in Peer::STREAMS.iter().zip(&measured) {
        let mut row: Vec<Cell> = vec![peer.to_string().into()];
        row.extend([0, 1, 2].map(|process| Cell::from(Spread::by(rounds, 1.0, |bytes| bytes[process]))));
        let all = Spread::by(rounds, 1.0, |bytes| bytes.iter().sum());
        row.push(all.into());
        table.row(row);
        let mib = |streams: f64| (streams, all.median.max(1.0) * streams / f64::from(1 << 20));
        plot.line(peer.to_string(), [100.0, 1e3, 1e4, 1e5].map(mib));
    }
    report.tables = vec![table];
    report.plots = vec![plot];
    Ok(report)
}

/// Bytes a stream of caller, responder and nats-server, all new.
async fn idle(peer: Peer, streams: usize) -> Result<[f64; 3]> {
    let nats = NatsServer::start().await;
    let mut pair = Pair::start(&nats, peer, Set::default()).await?;
    let opened: usize = pair.ask(&Task::Open { streams }).await?;
    let before = pair.resident()?;
    let all: usize = pair.ask(&Task::Open { streams }).await?;
    let after = pair.resident()?;
    let count = (all - opened) as f64;
    Ok(std::array::from_fn(|process| {
        (after[process] - before[process]) / count
    }))
}
