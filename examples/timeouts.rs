//! The clocks of a call: until the first item, between two items, and for all of it. And the handler's own, which it tells its
//! caller of. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example timeouts`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::{Code, ConnectConfig, Connection, HandlerError, Pool, Request, RequestBuilder, ResponseSender, Server};
use tokio::time::{sleep, timeout};

const SHORT: Duration = Duration::from_millis(200);

/// The seeds' third-party call that never returns.
async fn call_somebody() -> Result<String, HandlerError> {
    std::future::pending().await
}

async fn serve(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    match &**request.payload() {
        b"never" => {}
        b"then nothing" => {
            for number in 0..3 {
                out.send(number.to_string()).await?;
            }
        }
        b"for ever" => loop {
            // The caller's deadline has come along, for work that has to know in advance.
            assert!(request.deadline().is_some(), "the caller has set one");
            out.send("more").await?;
            sleep(Duration::from_millis(1)).await;
        },
        _ => {
            let answer = timeout(SHORT, call_somebody()).await;
            let answer = answer.map_err(|_| HandlerError::new(Code::DeadlineExceeded, "somebody does not answer"))?;
            out.send(answer?).await?;
        }
    }
    // Whichever clock runs out, the handler is told at once.
    let reason = out.closed().await;
    println!("  the handler was told: {reason:?}");
    Ok(())
}

/// Reads to the end, which comes too early, and says how.
async fn call(request: RequestBuilder) -> anyhow::Result<()> {
    let mut responses = request.await?;
    let Err(error) = responses.collect_into(&mut Vec::new(), 1 << 20).await else {
        anyhow::bail!("an answer that was cut off looked complete");
    };
    let code = error.status().map(|status| status.code);
    println!(
        "{:?}, clock {:?}, code {code:?}, after items: {}",
        error.kind(),
        error.clock(),
        error.items() > 0
    );
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let server = Server::new(connection.clone());
    server.on("examples.slow", serve).await?;
    let pool = Pool::new(connection);
    let request = |payload: &'static str| pool.request_stream("examples.slow", payload);

    call(request("never").first_item_timeout(SHORT)).await?;
    call(request("then nothing").idle_timeout(SHORT)).await?;
    // It holds for everything: connecting, all attempts, and the pauses between them.
    call(request("for ever").deadline(3 * SHORT)).await?;
    // No clock of the caller: without one it waits as long as the responder lives.
    call(request("the handler's own clock")).await?;
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
