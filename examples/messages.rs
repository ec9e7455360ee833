//! Messages without streams: an event for everybody, tasks for workers, a request with one reply, and values in place of
//! bytes. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example messages`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::{ConnectConfig, Connection, Pool, Server};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let server = Server::new(connection.clone());
    let pool = Pool::new(connection);

    // Without a queue group, every subscription gets every event.
    let audit = server
        .on_message("examples.events.>", |event| async move {
            println!("{}: {}", event.subject(), event.json::<String>()?);
            Ok(())
        })
        .max_concurrent(1) // one after the other, in their order
        .await?;
    // In a queue group, one of its members gets each message; the sender may want a reply.
    server
        .on_message("examples.add", |request| async move {
            let numbers: Vec<u64> = request.json()?;
            request.respond_as(&numbers.iter().sum::<u64>()).await
        })
        .queue_group("adders")
        .await?;

    for name in ["Ada", "Grace"] {
        pool.publish_as("examples.events.user.created", name).await?;
    }
    // nats-server has them; who is subscribed, nobody says.
    pool.flush(Duration::from_secs(5)).await?;
    let sum: u64 = pool.request_as("examples.add", &[1, 2, 3]).typed().await?;
    // Waits for the handlers that run.
    server.drain(Duration::from_secs(5)).await;
    println!("sum {sum}, {} events", audit.stats().processed);
    Ok(())
}
