//! Handlers that are asked for what comes next, by its number from 0: an item, or a page of items. And those that return
//! everything at once, or a stream. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example batches`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use natstream::{ConnectConfig, Connection, HandlerError, Pool, Server};

/// Rows of the table, and of a page of it.
const ROWS: u64 = 1050;
const PAGE: u64 = 100;

/// A page of the table, and whether there is another one.
async fn read_page(table: &str, page: u64) -> Result<(Vec<String>, bool), HandlerError> {
    if table != "orders" {
        return Err(HandlerError::not_found(format!("there is no table {table}")));
    }
    let (first, end) = (page * PAGE, (page + 1) * PAGE);
    let rows = (first..end.min(ROWS)).map(|row| format!("{table} {row}"));
    Ok((rows.collect(), end < ROWS))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let server = Server::new(connection.clone());

    // The seeds' `StreamResponseHandler`: ten items, then no more. `(None, true)` would mean: nothing now, ask again.
    server
        .on_indexed("examples.batches.items", |_request, index| async move {
            Ok(if index < 10 {
                (Some(format!("response {index}")), true)
            } else {
                (None, false)
            })
        })
        .await?;
    // The seeds' `BatchStreamSubscribeHandler`. The next page is read when the caller has room for it, and no page is once
    // the caller has left. Small items share messages in any case: batches are for the handler's convenience.
    server
        .on_batches("examples.batches.pages", |request, page| async move {
            let table = String::from_utf8_lossy(request.payload());
            read_page(&table, page).await
        })
        .await?;
    // What is there already, or computed as it is sent: any iterator.
    server
        .on_items("examples.batches.squares", |request| async move {
            let count: u64 = request.json()?;
            Ok((0..count).map(|number| (number * number).to_string()))
        })
        .await?;
    // A stream, which is dropped when the caller leaves. The first error ends the answer.
    server
        .on_stream("examples.batches.stream", |_request| async {
            let items = stream::iter(0..5).map(|number| Ok(number.to_string()));
            Ok(items.chain(stream::once(async {
                Err(HandlerError::unavailable("the source is gone"))
            })))
        })
        .await?;

    let pool = Pool::new(connection);
    for (subject, payload) in [
        ("examples.batches.items", ""),
        ("examples.batches.pages", "orders"),
        ("examples.batches.pages", "nothing"),
        ("examples.batches.squares", "1000"),
        ("examples.batches.stream", ""),
    ] {
        // What came before a failure is kept.
        let mut items = Vec::new();
        let mut answer = pool.request_stream(subject, payload).await?;
        let end = match answer.collect_into(&mut items, 1 << 20).await {
            Ok(()) => "complete".to_owned(),
            Err(error) => format!("{:?}", error.status().map(|status| status.code)),
        };
        println!(
            "{subject} {payload:?}: {} items, the last is {:?}, {end}",
            items.len(),
            items.last()
        );
    }
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
