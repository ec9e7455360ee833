//! A handler that returns at once while a task of its own sends, and a caller that reads with a callback: the seeds' first
//! example. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example simple_stream`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::ops::ControlFlow;
use std::time::Duration;

use natstream::{CloseReason, ConnectConfig, Connection, HandlerError, Pool, ResponseSender, Server};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Answers long after the handler has returned.
async fn answer(count: u64, mut out: ResponseSender, left: UnboundedSender<CloseReason>) {
    for number in 0..count {
        // It waits while the caller has no room. No error needs to be sent: it fails when nobody is there to get one.
        if out.send(format!("response {number}")).await.is_err() {
            let _ = left.send(out.closed().await);
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // An answer whose sender is dropped without this is aborted: it cannot look complete.
    out.finish();
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let server = Server::new(connection.clone());
    let (left, mut has_left) = unbounded_channel();
    server
        .on_typed("examples.simple", move |count: u64, _request, out| {
            let left = left.clone();
            async move {
                if count == 0 {
                    return Err(HandlerError::invalid("at least one"));
                }
                tokio::spawn(answer(count, out, left));
                // The sender lives on, so the stream stays open.
                Ok(())
            }
        })
        .await?;

    // To the end: that there is no error means that nothing is missing.
    let pool = Pool::new(connection);
    let responses = pool.request_stream_as("examples.simple", &10).await?;
    let mut received = 0;
    responses
        .for_each(|_item| {
            received += 1;
            ControlFlow::Continue(())
        })
        .await?;
    println!("complete: {received} responses");

    // The callback has seen enough: that is no error, and the task is told.
    let responses = pool.request_stream_as("examples.simple", &u64::MAX).await?;
    let mut received = 0;
    responses
        .for_each(|_item| {
            received += 1;
            if received == 3 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .await?;
    println!(
        "broken off: {received} responses, and the task was told: {:?}",
        has_left.recv().await
    );

    // An error is one on the caller's side, and not an item.
    let refused = pool.request_stream_as("examples.simple", &0).await?.try_next().await;
    println!(
        "refused: {:?}",
        refused.err().and_then(|error| Some(error.status()?.code))
    );
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
