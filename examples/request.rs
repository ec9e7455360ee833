//! A request with one reply, as any NATS program makes and answers it; and what the caller sees when there is none.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example request`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::{Code, ConnectConfig, Connection, HandlerError, Pool, Server};

/// Also what a request has if nothing else is said.
const LIMIT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let server = Server::new(connection.clone());
    server
        .on_message("examples.request.ping", |request| async move {
            Ok(request.respond("pong").await?)
        })
        .queue_group("services")
        .await?;
    server
        .on_message("examples.request.add", |request| async move {
            // What cannot be read, the requester is told.
            let numbers: Vec<u64> = request.json()?;
            request.respond_as(&numbers.iter().sum::<u64>()).await
        })
        .queue_group("services")
        .await?;
    server
        .on_message("examples.request.forbidden", |_request| async {
            Err(HandlerError::new(Code::PermissionDenied, "not today"))
        })
        .queue_group("services")
        .await?;
    server
        .on_message("examples.request.silent", |_request| async { Ok(()) })
        .queue_group("services")
        .await?;

    let pool = Pool::new(connection);
    let reply = pool.request("examples.request.ping", "hello").timeout(LIMIT).await?;
    println!("{}", String::from_utf8_lossy(reply.payload()));
    let sum: u64 = pool.request_as("examples.request.add", &[1, 2, 3]).typed().await?;
    println!("sum {sum}");

    for subject in ["add", "forbidden", "nobody", "silent"] {
        // Of the last one only the clock can tell: it takes the request, and says nothing.
        let limit = if subject == "silent" {
            Duration::from_millis(200)
        } else {
            LIMIT
        };
        let request = pool.request(format!("examples.request.{subject}"), "no list");
        let Err(error) = request.timeout(limit).await else {
            anyhow::bail!("{subject} has replied");
        };
        let code = error.status().map(|status| status.code);
        println!(
            "{subject}: {:?}, code {code:?}, ask again: {}",
            error.kind(),
            error.is_retryable()
        );
    }
    server.drain(LIMIT).await;
    Ok(())
}
