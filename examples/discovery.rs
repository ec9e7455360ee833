//! Who is there, what do they serve, and how does it go: every server answers that over NATS, with nothing to set up (NATS
//! ADR-32). `natstream ls` and `natstream top` ask the same. `cargo xtask nats up`, then
//! `NATS_URL=… cargo run -p examples --example discovery`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::{ConnectConfig, Connection, Dialect, Pool, Server};
use serde::Deserialize;

/// A part of what is answered to `$SRV.STATS`; docs/discovery.md has the rest.
#[derive(Debug, Deserialize)]
struct Service {
    id: String,
    version: String,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    subject: String,
    num_requests: u64,
}

async fn start(connection: &Connection, zone: &str) -> anyhow::Result<Server> {
    let server = Server::builder(connection.clone())
        .name("examples-discovery")
        .version("1.2.3")
        .description("letters")
        .metadata("zone", zone)
        .build();
    let letters = server.on_items("examples.discovery", |_request| async { Ok(["a", "b", "c"]) });
    letters.name("letters").await?;
    Ok(server)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let servers = [start(&connection, "eu-1").await?, start(&connection, "eu-2").await?];
    let pool = Pool::new(connection);
    for _ in 0..10 {
        let letters = pool.request_stream("examples.discovery", "").await?;
        letters.collect_all(1 << 10).await?;
    }

    // All of this name: each answers with one message, and nobody says how many there are. So an answer never ends, and is
    // read until it is quiet, or until those are here that are known.
    let question = pool.request_stream("$SRV.STATS.examples-discovery", "");
    let question = question.dialect(Dialect::Sentinel).idle_timeout(Duration::from_secs(5));
    let mut answers = question.typed::<Service>().await?;
    let mut requests = 0;
    while answers.received() < 2
        && let Some(service) = answers.try_next().await?
    {
        let is_known = servers.iter().any(|server| server.id() == service.id);
        println!("version {}, known: {is_known}", service.version);
        for endpoint in service.endpoints {
            println!("  {}", endpoint.subject);
            requests += endpoint.num_requests;
        }
    }
    println!("{requests} requests, shared by both");

    // One of them.
    let subject = format!("$SRV.STATS.{}.{}", servers[0].name(), servers[0].id());
    let service: Service = pool.request(subject, "").typed().await?;
    println!("asked for itself, it answers: {}", service.id == servers[0].id());
    for server in servers {
        server.drain(Duration::from_secs(5)).await;
    }
    // Who was drained is not there any more.
    let gone = pool.request("$SRV.PING.examples-discovery", "").await;
    println!("later: {:?}", gone.err().map(|error| error.kind()));
    Ok(())
}
