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
        row.extend([0, 1, 2].map(|process| Cell::from(Spread::by(rounds, 1.0, |idle| idle.bytes[process]))));
        row.push(Spread::by(rounds, 1.0, |idle| idle.bytes.iter().sum()).into());
        table.row(row);
        let steps = steps(options.streams).into_iter().enumerate();
        let median = |step: usize| Spread::by(rounds, 1.0 / f64::from(1 << 20), |idle| idle.resident[step]).median;
        plot.line(
            peer.to_string(),
            steps.map(|(step, streams)| (streams as f64, median(step))),
        );
    }
    report.tables = vec![table];
    report.plots = vec![plot];
    Ok(report)
}

/// What one round saw.
struct Idle {
    /// A stream: caller, responder, nats-server.
    bytes: [f64; 3],
    /// Of all processes, with so many streams as [`steps`] says.
    resident: Vec<f64>,
}

/// How many streams are open when memory is read; the last two are what a stream is measured by.
fn steps(streams: usize) -> Vec<usize> {
    let mut steps: Vec<usize> = [1, 10, 100, 1000].into_iter().filter(|step| *step < streams).collect();
    steps.extend([streams, 2 * streams]);
    steps
}

/// All processes are new.
async fn idle(peer: Peer, streams: usize) -> Result<Idle> {
    let nats = NatsServer::start().await;
    let mut pair = Pair::start(&nats, peer, Set::default()).await?;
    let (mut resident, mut open) = (Vec::new(), 0);
    let (mut before, mut now) = ([0.0; 3], [0.0; 3]);
    for step in steps(streams) {
        open = pair.ask(&Task::Open { streams: step - open }).await?;
        (before, now) = (now, pair.resident()?);
        resident.push(now.iter().sum());
    }
    Ok(Idle {
        bytes: std::array::from_fn(|process| (now[process] - before[process]) / streams as f64),
        resident,
    })
}
