//! What a service and its callers count, and a line for each call. `cargo xtask nats up`, then
//! `NATS_URL=… cargo run -p examples --example monitoring`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::{Duration, Instant};

use natstream::{ConnectConfig, Connection, HandlerError, Pool, Request, ResponseSender, Server};

async fn serve(request: &Request, out: &mut ResponseSender) -> Result<(), HandlerError> {
    let count: u64 = request.json()?;
    for number in 0..count {
        out.send(number.to_string()).await?;
    }
    Ok(())
}

/// A wrapper that logs is a function like any other. `out` knows how many items were sent.
async fn logged(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let (subject, began) = (request.subject(), Instant::now());
    let served = serve(&request, &mut out).await;
    let code = served.as_ref().err().map(|error| error.status().code);
    println!(
        "{subject}: sent {}, error {code:?}, took {:?}",
        out.sent(),
        began.elapsed()
    );
    served
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let server = Server::new(connection.clone());
    let endpoint = server.on("examples.monitoring", logged).max_concurrent(100).await?;

    let pool = Pool::new(connection.clone());
    for _ in 0..10 {
        let numbers = pool.request_stream_as("examples.monitoring", &100).await?;
        numbers.collect_all(1 << 20).await?;
    }
    let mut refused = pool.request_stream_as("examples.monitoring", "no number").await?;
    anyhow::ensure!(refused.try_next().await.is_err(), "it was taken for a number");
    // One that leaves early. Dropping the answer is all that it takes.
    let mut numbers = pool.request_stream_as("examples.monitoring", &u64::MAX).await?;
    numbers.try_next().await?;
    drop(numbers);

    // Levels can be read at any time. A call that has just ended may still be on its way from one counter to the other.
    while endpoint.stats().active > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let stats = endpoint.stats();
    println!(
        "endpoint: {} finished, {} failed, {} cancelled",
        stats.finished, stats.failed, stats.cancelled
    );
    println!(
        "  {} items, {} bytes, {:?} a call",
        stats.items,
        stats.bytes,
        stats.average_duration()
    );
    println!("  senders have waited for callers for {:?}", stats.stalled);
    println!("  errors: {:?}, the last one is {:?}", stats.errors, stats.last_error);
    let stats = pool.stats();
    println!(
        "pool: {} attempts, {} in flight, {} retries",
        stats.attempts, stats.in_flight, stats.retries
    );
    let state = *connection.state().borrow();
    println!(
        "connection: up {}, since its epoch {}",
        state.is_connected(),
        state.epoch
    );
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
