//! One native stream over a link with a rate and a round trip.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use testkit::{Flow, NatsServer, Proxy};

use crate::machine::Origin;
use crate::options::positive;
use crate::pair::{Cost, Pair, Set, each};
use crate::peers::Peer;
use crate::report::{Plot, Report, Spread, Table};

/// One stream whose caller stands behind a proxy that limits the rate and delays what passes.
#[derive(Args, Debug, Serialize)]
pub(crate) struct Options {
    /// Milliseconds of the way there and back.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 50, 100, 200])]
    round_trips: Vec<u64>,
    /// What the link carries in each direction, in MB a second.
    #[arg(long, default_value_t = 20, value_parser = positive::<u64>)]
    mbytes_per_second: u64,
    /// What one call brings, in MB.
    #[arg(long, default_value_t = 300, value_parser = positive::<u64>)]
    mbytes: u64,
    /// Bytes of an item.
    #[arg(long, default_value_t = 1000, value_parser = positive::<usize>)]
    size: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 2, value_parser = positive::<usize>)]
    rounds: usize,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(nats.url()).await;
    let about = "One call, from its request to its last item, through a proxy; the responder stands beside nats-server. No \
                 setting by hand.";
    let mut report = Report::new("far", about, options, Origin::now(Some(&nats.url())).await?);
    report.peers = Peer::settings(&[Peer::Natstream]);
    let mut pair = Pair::start_behind(&nats, Peer::Natstream, Set::default(), &proxy.url()).await?;
    let rate = options.mbytes_per_second * 1_000_000;
    proxy.bandwidth(Flow::Both, rate);
    let items = (options.mbytes * 1_000_000).div_ceil(options.size as u64);
    let mut table = Table::new(
        "One stream over a long way",
        [
            ("round trip ms", 0),
            ("MB/s", 1),
            ("% of the link", 0),
            ("caller grown MiB", 1),
            ("responder grown MiB", 1),
            ("nats-server grown MiB", 1),
        ],
    );
    let mut line = Vec::new();
    for round_trip in &options.round_trips {
        proxy.delay(Flow::Both, Duration::from_millis(*round_trip) / 2);
        let mut costs: Vec<Cost> = Vec::with_capacity(options.rounds);
        for _ in 0..options.rounds {
            costs.push(pair.streams(1, items, options.size).await?);
        }
        let size = options.size as f64;
        let speed = Spread::by(&costs, 1e-6 * size, |cost| cost.rate);
        let share = Spread::by(&costs, 100.0 * size / rate as f64, |cost| cost.rate);
        line.push((*round_trip as f64, speed.median));
        let mut row = vec![(*round_trip).into(), speed.into(), share.into()];
        row.extend(each(&costs, 1.0 / f64::from(1 << 20), |cost| cost.grown).map(Into::into));
        table.row(row);
    }
    let mut plot = Plot::new("Throughput of one stream against the round trip", "ms", "MB/s");
    plot.line(Peer::Natstream.to_string(), line);
    report.tables = vec![table];
    report.plots = vec![plot];
    Ok(report)
}
