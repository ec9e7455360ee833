//! Prices without an end: callers come and go, each gets the latest price when it is ready for one, and there is one source for
//! all of them. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example ticker`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use natstream::{ConnectConfig, Connection, HandlerError, Pool, Request, ResponseSender, Server};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Price {
    symbol: String,
    cents: u64,
    sequence: u64,
}

/// What the exchange says now, by symbol. A watch has the latest value only: a caller that is slow misses prices that are
/// old, and holds up nobody.
type Exchange = HashMap<String, watch::Receiver<Price>>;

/// Goes on until nobody is left who could ask.
async fn trade(prices: watch::Sender<Price>) {
    let mut clock = interval(Duration::from_millis(2));
    while !prices.is_closed() {
        clock.tick().await;
        prices.send_modify(|price| {
            price.sequence += 1;
            price.cents = 10_000 + price.sequence * 7919 % 1000;
        });
    }
}

/// Ends only when the caller leaves.
async fn stream_prices(exchange: Arc<Exchange>, request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let symbol = request.subject().rsplit('.').next().unwrap_or_default();
    let prices = exchange.get(symbol).ok_or_else(|| HandlerError::not_found(symbol))?;
    let mut prices = prices.clone();
    loop {
        let changed = out.until_closed(prices.changed()).await?;
        changed.map_err(|_| HandlerError::unavailable("the exchange has closed"))?;
        let price = prices.borrow_and_update().clone();
        out.send_as(&price).await?;
    }
}

/// Reads so many prices, and leaves.
async fn watch_prices(pool: Pool, symbol: &'static str, count: u64) -> anyhow::Result<Price> {
    let subject = format!("examples.stock.{symbol}");
    let mut prices = pool.request_stream(subject, "").typed::<Price>().await?;
    let mut last: Option<Price> = None;
    while let Some(price) = prices.try_next().await? {
        anyhow::ensure!(last.is_none_or(|last| last.sequence < price.sequence), "an old price");
        if prices.received() == count {
            // Dropping the answer ends the handler.
            return Ok(price);
        }
        last = Some(price);
    }
    anyhow::bail!("the prices have ended")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let (mut exchange, mut traders) = (Exchange::new(), JoinSet::new());
    for symbol in ["AAPL", "MSFT"] {
        let (cents, sequence) = (10_000, 0);
        let (sender, prices) = watch::channel(Price {
            symbol: symbol.to_owned(),
            cents,
            sequence,
        });
        exchange.insert(symbol.to_owned(), prices);
        traders.spawn(trade(sender));
    }
    let server = Server::new(connection.clone());
    let exchange = Arc::new(exchange);
    let endpoint = server
        .on("examples.stock.*", move |request, out| {
            stream_prices(exchange.clone(), request, out)
        })
        .await?;

    let pool = Pool::new(connection);
    let (apple, microsoft) = tokio::try_join!(
        watch_prices(pool.clone(), "AAPL", 20),
        watch_prices(pool.clone(), "MSFT", 50)
    )?;
    println!("{} and {} were watched at a time", apple.symbol, microsoft.symbol);
    let later = watch_prices(pool.clone(), "AAPL", 1).await?;
    println!(
        "who comes later gets no old price: {}",
        later.sequence >= apple.sequence
    );
    let unknown = watch_prices(pool, "NONE", 1).await.is_err();
    println!("nobody knows NONE: {unknown}");

    // Every handler ends, although the prices do not.
    let drained = server.drain(Duration::from_secs(5)).await;
    let stats = endpoint.stats();
    println!(
        "{} calls, {} still active, {} aborted",
        stats.requests, stats.active, drained.aborted
    );
    Ok(())
}
