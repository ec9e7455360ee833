//! What natstream does, on this machine and this repository: `cargo xtask demo`.
//!
//! Four services and their callers, each on a connection of its own, over a real nats-server.
#![expect(clippy::print_stdout, reason = "the demo shows what it does")]

mod failing;
mod machine;
mod memory;
mod search;
mod slow;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use natstream::{ConnectConfig, Connection, Pool, Server};

/// A line of the summary.
#[derive(Debug)]
struct Summary {
    items: u64,
    bytes: u64,
    verdict: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").context("NATS_URL is not set; `cargo xtask demo` sets it")?;
    let server = Server::new(Connection::connect(ConnectConfig::new(&url).name("demo responder")).await?);
    let pool = Pool::new(Connection::connect(ConnectConfig::new(&url).name("demo caller")).await?);

    search::serve(&server).await?;
    machine::serve(&server).await?;
    slow::serve(&server).await?;
    failing::serve(&server).await?;

    let mut table = Vec::new();
    for name in ["search", "machine", "slow reader", "failing handler"] {
        let started = Instant::now();
        let summary = match name {
            "search" => search::call(&pool).await,
            "machine" => machine::call(&pool).await,
            "slow reader" => slow::call(&pool).await,
            _ => failing::call(&pool).await,
        };
        let summary = summary.with_context(|| format!("the part `{name}`"))?;
        table.push((name, summary, started.elapsed()));
    }
    print_table(&table);
    server.drain(Duration::from_secs(2)).await;
    Ok(())
}

fn print_table(table: &[(&str, Summary, Duration)]) {
    println!(
        "\n{:<16} {:>9} {:>10} {:>8}  verdict",
        "part", "items", "MiB", "seconds"
    );
    for (name, summary, duration) in table {
        let mib = summary.bytes as f64 / f64::from(1 << 20);
        let seconds = duration.as_secs_f64();
        println!(
            "{name:<16} {:>9} {mib:>10.2} {seconds:>8.2}  {}",
            summary.items, summary.verdict
        );
    }
}
