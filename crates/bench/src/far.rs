//! One native stream over a link with a rate and a round trip.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use testkit::{Flow, NatsServer, Proxy};

use crate::process::{Role, peak_memory};
use crate::report::Spread;
use crate::task::{Streamed, Task, Variant};

/// What a run measures.
#[derive(Debug)]
pub(crate) struct Options {
    round_trips: Vec<u64>,
    mbytes_per_second: u64,
    mbytes: u64,
    size: usize,
    rounds: usize,
    json: bool,
}

impl Options {
    pub(crate) fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut options = Self {
            round_trips: vec![0, 50, 100, 200],
            mbytes_per_second: 20,
            mbytes: 300,
            size: 1000,
            rounds: 3,
            json: false,
        };
        while let Some(word) = words.next() {
            if word == "--json" {
                options.json = true;
                continue;
            }
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            match word {
                "--round-trips" => options.round_trips = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--mbytes-per-second" => options.mbytes_per_second = value.parse()?,
                "--mbytes" => options.mbytes = value.parse()?,
                "--size" => options.size = value.parse()?,
                "--rounds" => options.rounds = value.parse()?,
                other => bail!("unknown option `{other}`"),
            }
        }
        if [
            options.mbytes_per_second,
            options.mbytes,
            options.size as u64,
            options.rounds as u64,
        ]
        .contains(&0)
        {
            bail!("every number but a round trip is at least 1");
        }
        Ok(options)
    }
}

/// What came of one round trip.
#[derive(Debug, Serialize)]
struct Row {
    round_trip_ms: u64,
    /// Of the items, the whole call.
    bytes_per_second: Spread,
    /// Of the second half of the items, when the window has grown.
    later_bytes_per_second: Spread,
    /// The most memory that the processes had so far, in the order of the rows.
    caller_peak_bytes: u64,
    responder_peak_bytes: u64,
}

/// The caller stands behind the proxy; the responder beside the server.
pub(crate) async fn run(options: Options) -> Result<()> {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(nats.url()).await;
    let responder = Role::start("responder", &nats.url()).await?;
    let mut caller = Role::start("caller", &proxy.url()).await?;
    let rate = options.mbytes_per_second * 1_000_000;
    let task = Task::Stream {
        variant: Variant::Native,
        items: (options.mbytes * 1_000_000).div_ceil(options.size as u64),
        size: options.size,
    };
    let mut rows = Vec::new();
    for &round_trip_ms in &options.round_trips {
        proxy.bandwidth(Flow::Both, rate);
        proxy.delay(Flow::Both, Duration::from_millis(round_trip_ms) / 2);
        let mut rounds = Vec::new();
        for _ in 0..options.rounds {
            let done: Streamed = caller.ask(&task).await?;
            rounds.push(done);
        }
        let bytes = |done: &Streamed| done.items as f64 * options.size as f64;
        rows.push(Row {
            round_trip_ms,
            bytes_per_second: Spread::of(rounds.iter().map(|done| bytes(done) / done.seconds)),
            later_bytes_per_second: Spread::of(rounds.iter().map(|done| bytes(done) / 2.0 / done.later_half_seconds)),
            caller_peak_bytes: peak_memory(caller.pid()?)?,
            responder_peak_bytes: peak_memory(responder.pid()?)?,
        });
    }
    if options.json {
        println!("{}", serde_json::to_string(&rows)?);
    } else {
        print(&options, &rows);
    }
    Ok(())
}

fn print(options: &Options, rows: &[Row]) {
    let Options {
        mbytes_per_second,
        mbytes,
        size,
        rounds,
        ..
    } = options;
    println!(
        "a call of {mbytes} MB in items of {size} B through a link of {mbytes_per_second} MB/s; {rounds} rounds; \
         median (min–max)\n"
    );
    println!(
        "| round trip | MB/s, whole call | of the link | MB/s, later half | of the link | caller peak MiB | responder peak MiB |"
    );
    println!("|--:|---|--:|---|--:|--:|--:|");
    let link = *mbytes_per_second as f64 * 1e6;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for row in rows {
        println!(
            "| {} ms | {} | {:.0} % | {} | {:.0} % | {:.0} | {:.0} |",
            row.round_trip_ms,
            row.bytes_per_second.scaled(1e-6, 1),
            row.bytes_per_second.median / link * 100.0,
            row.later_bytes_per_second.scaled(1e-6, 1),
            row.later_bytes_per_second.median / link * 100.0,
            mib(row.caller_peak_bytes),
            mib(row.responder_peak_bytes),
        );
    }
}
