//! Several connections to each server as one set, the seeds' connection pool: there are as many as the load needs, each call
//! takes the one that carries least, and nobody borrows one or gives it back.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example connections`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::{ConnectConfig, Connection, Connections, Pool, Server};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let server = Server::new(Connection::connect(ConnectConfig::new(&url)).await?);
    server
        .on("examples.connections", |_request, mut out| async move {
            out.send("hello").await?;
            out.closed().await;
            Ok(())
        })
        .await?;

    // One connection carries thousands of streams, so most programs need no more. A list of servers is a text with commas.
    let connections = Connections::builder(ConnectConfig::new(&url))
        .per_server(2..=4)
        .grow_above(4)
        .max_life(Duration::from_secs(60 * 60)) // then another one takes its place, and its calls end in peace
        .warm_up()
        .connect()
        .await?;
    println!("{} connections to begin with", connections.stats().connections);

    let pool = Pool::new(connections.clone());
    let mut calls = Vec::new();
    while connections.stats().connections < 4 {
        let mut call = pool.request_stream("examples.connections", "").await?;
        anyhow::ensure!(call.try_next().await?.is_some(), "an answer without an item");
        calls.push(call);
        // Dialling takes a moment.
        sleep(Duration::from_millis(1)).await;
    }
    let stats = connections.stats();
    println!(
        "{} connections for many calls, all of them counted: {}",
        stats.connections,
        stats.in_flight == calls.len()
    );
    for server in &stats.servers {
        println!(
            "{}: {} of {} are up, score {}",
            server.server, server.up, server.connections, server.score
        );
    }

    // A call that has ended gives its share back by itself. What is too much is closed after a minute without work.
    drop(calls);
    while connections.stats().in_flight > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    println!("{} in flight in the end", connections.stats().in_flight);
    server.drain(Duration::from_secs(5)).await;
    println!(
        "{} leases were still held",
        connections.close(Duration::from_secs(5)).await
    );
    Ok(())
}
