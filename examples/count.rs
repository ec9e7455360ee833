//! A handler that counts, and a caller that adds up: `cargo xtask nats up`, then
//! `NATS_URL=… cargo run -p examples --example count`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use natstream::{ConnectConfig, Connection, HandlerError, Pool, Server};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;

    let server = Server::new(connection.clone());
    server
        .on("examples.count", |request, mut out| async move {
            let text = std::str::from_utf8(request.payload()).unwrap_or_default();
            let count: u64 = text.parse().map_err(|_| HandlerError::invalid("send a number"))?;
            for number in 1..=count {
                out.send(number.to_string()).await?;
            }
            Ok(())
        })
        .await?;

    let mut numbers = Pool::new(connection).request_stream("examples.count", "1000").await?;
    let mut sum = 0u64;
    while let Some(number) = numbers.try_next().await? {
        sum += std::str::from_utf8(&number)?.parse::<u64>()?;
    }
    println!("{} numbers, sum {sum}", numbers.received());
    Ok(())
}
