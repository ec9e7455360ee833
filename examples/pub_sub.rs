//! Events for everybody who is subscribed, with wildcards: `*` is one part of a subject, `>` all that follow.
//! `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example pub_sub`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::{ConnectConfig, Connection, Pool, Server};

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let server = Server::new(connection.clone());
    let pool = Pool::new(connection);

    // When these return, nats-server knows the subscriptions: what is published from now on arrives.
    let audit = server
        .on_message("examples.pubsub.>", |event| async move {
            println!("audit: {} = {}", event.subject(), event.json::<String>()?);
            Ok(())
        })
        .max_concurrent(1) // one after the other, in their order
        .await?;
    let orders = server
        .on_message("examples.pubsub.order.*", |event| async move {
            // An event that cannot be read is counted as failed, and ends nothing.
            event.json::<String>()?;
            Ok(())
        })
        .await?;

    pool.publish_as("examples.pubsub.user.created", "Ada").await?;
    pool.publish_as("examples.pubsub.order.created", "7").await?;
    pool.publish_as("examples.pubsub.order.shipped.confirmed", "7").await?;
    pool.publish("examples.pubsub.order.paid", "no JSON").await?;
    // nats-server has them; who is subscribed, nobody says. For what must not be lost there is the event bus.
    pool.flush(LIMIT).await?;

    // What was on its way is taken; what comes later is not.
    orders.unsubscribe().await;
    pool.publish_as("examples.pubsub.order.created", "8").await?;
    pool.flush(LIMIT).await?;
    // Waits for the handlers that run.
    server.drain(LIMIT).await;
    for subscription in [audit, orders] {
        let stats = subscription.stats();
        println!(
            "{}: {} handled, {} failed",
            subscription.subject(),
            stats.processed,
            stats.failed
        );
    }
    Ok(())
}
