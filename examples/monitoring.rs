//! What a service and its callers count, a line for each call, and how anybody can ask over NATS who is there and how it goes.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example monitoring`; or watch it with `natstream top`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::{Duration, Instant};

use natstream::{
    ConnectConfig, Connection, Dialect, Endpoint, EndpointStats, HandlerError, Pool, Request, ResponseSender, Server,
};
use serde::Deserialize;

/// A service tells who it is (NATS ADR-32). `stats` is what it answers to `$SRV.STATS`; there is more in it.
#[derive(Debug, Deserialize)]
struct Stats {
    id: String,
    version: String,
    endpoints: Vec<Numbers>,
}

#[derive(Debug, Deserialize)]
struct Numbers {
    name: String,
    num_requests: u64,
    num_errors: u64,
    last_error: String,
}

async fn serve(request: &Request, out: &mut ResponseSender) -> Result<(), HandlerError> {
    let count: u64 = request.json()?;
    for number in 0..count {
        out.send(number.to_string()).await?;
    }
    Ok(())
}

/// A wrapper that logs is a function like any other. `out` knows how many items were sent.
async fn logged(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let began = Instant::now();
    let served = serve(&request, &mut out).await;
    let code = served.as_ref().err().map(|error| error.status().code);
    println!(
        "{}: sent {}, error {code:?}, took {:?}",
        request.subject(),
        out.sent(),
        began.elapsed()
    );
    served
}

async fn start(connection: &Connection) -> anyhow::Result<(Server, Endpoint)> {
    let server = Server::builder(connection.clone())
        .name("examples-monitoring")
        .version("1.2.3")
        .metadata("zone", "eu-1")
        .build();
    let endpoint = server.on("examples.monitoring", logged).name("numbers").await?;
    Ok((server, endpoint))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    // Two instances, which share the requests.
    let (first, second) = (start(&connection).await?, start(&connection).await?);

    let pool = Pool::new(connection.clone());
    for _ in 0..10 {
        pool.request_stream_as("examples.monitoring", &100)
            .await?
            .collect_all(1 << 20)
            .await?;
    }
    let _ = pool
        .request_stream_as("examples.monitoring", "no number")
        .await?
        .try_next()
        .await;
    // One that leaves early. Dropping the answer is all that it takes.
    let mut numbers = pool.request_stream_as("examples.monitoring", &u64::MAX).await?;
    numbers.try_next().await?;
    drop(numbers);

    // In the process: levels and counters of both sides. A call that has just ended may still be on its way into them.
    let endpoints = [&first.1, &second.1];
    while endpoints.iter().any(|endpoint| endpoint.stats().active > 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let sum =
        |count: fn(EndpointStats) -> u64| -> u64 { endpoints.iter().map(|endpoint| count(endpoint.stats())).sum() };
    println!(
        "endpoints: {} finished, {} failed, {} cancelled",
        sum(|stats| stats.finished),
        sum(|stats| stats.failed),
        sum(|stats| stats.cancelled)
    );
    let stats = pool.stats();
    println!(
        "pool: {} attempts, {} in flight, {} retries",
        stats.attempts, stats.in_flight, stats.retries
    );
    let state = *connection.state().borrow();
    println!(
        "connection: connected {}, for the {}. time",
        state.is_connected(),
        state.epoch
    );

    // Over NATS: everybody of this name answers with one message, and nobody says how many there are.
    let question = pool
        .request_stream("$SRV.STATS.examples-monitoring", "")
        .dialect(Dialect::Sentinel);
    let mut answers = question.idle_timeout(Duration::from_secs(5)).typed::<Stats>().await?;
    let (mut requests, mut errors) = (0, 0);
    for _ in 0..2 {
        let Some(service) = answers.try_next().await? else {
            break;
        };
        let numbers = service.endpoints.iter().find(|endpoint| endpoint.name == "numbers");
        let is_ours = [&first.0, &second.0].iter().any(|server| server.id() == service.id);
        println!("$SRV: version {}, one of ours: {is_ours}", service.version);
        if let Some(Numbers {
            num_requests,
            num_errors,
            last_error,
            ..
        }) = numbers
        {
            requests += num_requests;
            errors += num_errors;
            println!("  last error: {last_error:?}");
        }
    }
    println!("$SRV: {requests} requests, {errors} errors");
    first.0.drain(Duration::from_secs(5)).await;
    second.0.drain(Duration::from_secs(5)).await;
    Ok(())
}
