//! Many streams at once on one connection.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use testkit::NatsServer;

use crate::machine::Origin;
use crate::options::positive;
use crate::pair::{Cost, Pair, each};
use crate::peers::Peer;
use crate::report::{Cell, Plot, Report, Spread, Table};
use crate::rounds::rounds;

/// Many streams at once on one connection, beside async-nats and tonic (with the feature `peers`).
#[derive(Args, Debug, Serialize)]
pub(crate) struct Options {
    /// Streams at a time.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000,10000", value_parser = positive::<usize>)]
    streams: Vec<usize>,
    /// Items of a round, those of all streams together; async-nats gets a fourth of them.
    #[arg(long, default_value_t = 4_000_000, value_parser = positive::<u64>)]
    items: u64,
    /// Bytes of an item.
    #[arg(long, default_value_t = 128, value_parser = positive::<usize>)]
    size: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 3, value_parser = positive::<usize>)]
    rounds: usize,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let nats = NatsServer::start().await;
    let about = "Calls at once on one connection, the same number of items together; peers take turns.";
    let mut report = Report::new("streams", about, options, Origin::now(Some(&nats.url())).await?);
    report.peers = Peer::settings(Peer::STREAMS);
    let mut table = Table::new(
        "Streams at once",
        [
            ("streams", 0),
            ("", 0),
            ("M items/s", 2),
            ("natstream to it", 2),
            ("CPU ns/item, all", 0),
            ("caller peak MiB", 1),
            ("responder peak MiB", 1),
            ("caller KiB/stream", 1),
            ("responder KiB/stream", 1),
        ],
    )
    .note(
        "The more streams, the fewer items each has, and the more the cost of a call shows. KiB a stream: by how much the most \
         memory while they ran is above what the process had before them.",
    );
    let mut speed = Plot::new("Throughput against streams", "streams at once", "M items/s");
    let mut memory = Plot::new(
        "Memory against streams",
        "streams at once",
        "MiB, caller and responder, at most",
    )
    .log();
    let mut lines: Vec<[Vec<(f64, f64)>; 2]> = vec![Default::default(); Peer::STREAMS.len()];
    for streams in &options.streams {
        // New processes, so that each has only the memory of its own.
        let mut pairs = Pair::all(&nats, Peer::STREAMS).await?;
        let mut failed = vec![false; pairs.len()];
        let measured = rounds(options.rounds, pairs.len(), async |peer| {
            if failed[peer] {
                return Ok(None);
            }
            let pair = &mut pairs[peer];
            let share = if pair.peer == Peer::AsyncNats { 4 } else { 1 };
            let items = (options.items / share).div_ceil(*streams as u64);
            match pair.streams(*streams, items, options.size).await {
                Ok(cost) => Ok(Some(cost)),
                // Ours must do it.
                Err(error) if pair.peer == Peer::Natstream => Err(error),
                Err(_) => {
                    failed[peer] = true;
                    Ok(None)
                }
            }
        })
        .await?;
        let measured: Vec<Vec<Cost>> = measured
            .into_iter()
            .map(|rounds| rounds.into_iter().flatten().collect())
            .collect();
        for (peer, failed) in Peer::STREAMS.iter().zip(&failed) {
            if *failed {
                table.notes.push(format!(
                    "{peer} broke off with {streams} streams; what it said is on standard error."
                ));
            }
        }
        for ((peer, rounds), lines) in Peer::STREAMS.iter().zip(&measured).zip(&mut lines) {
            if rounds.is_empty() {
                continue;
            }
            let [caller, responder, _] = each(rounds, 1.0 / f64::from(1 << 20), |cost| cost.peak);
            let [caller_grown, responder_grown, _] = each(rounds, 1.0 / 1024.0 / *streams as f64, |cost| cost.grown);
            let rate = Spread::by(rounds, 1e-6, |cost| cost.rate);
            let ratio = (*peer != Peer::Natstream).then(|| Spread::ratio(&measured[0], rounds, |cost| cost.rate));
            table.row([
                Cell::from(*streams),
                peer.to_string().into(),
                rate.into(),
                ratio.into(),
                Spread::by(rounds, 1.0, Cost::cpu_of_all).into(),
                caller.into(),
                responder.into(),
                caller_grown.max.into(),
                responder_grown.max.into(),
            ]);
            lines[0].push((*streams as f64, rate.median));
            lines[1].push((*streams as f64, caller.median + responder.median));
        }
    }
    for (peer, [rates, peaks]) in Peer::STREAMS.iter().zip(lines) {
        speed.line(peer.to_string(), rates);
        memory.line(peer.to_string(), peaks);
    }
    report.tables = vec![table];
    report.plots = vec![speed, memory];
    Ok(report)
}
