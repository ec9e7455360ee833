//! A service of values in place of bytes: what is asked, the items and what stands at the end are types of the program, and
//! what is none is an error in the right place. `cargo xtask nats up`, then `NATS_URL=… cargo run -p examples --example typed`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use natstream::{Codec as _, ConnectConfig, Connection, HandlerError, Json, Pool, Request, ResponseSender, Server};
use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Serialize, Deserialize)]
struct Search {
    customer: Option<String>,
    #[serde(default)]
    at_least: u64,
}

/// An item.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    amount: u64,
}

/// What stands at the end of a complete answer.
#[derive(Debug, Serialize, Deserialize)]
struct Summary {
    orders: u64,
    amount: u64,
}

fn orders() -> impl Iterator<Item = Order> + Send {
    (1..=1000).map(|id| Order {
        id,
        customer: if id % 10 == 0 { "grace" } else { "ada" }.to_owned(),
        amount: id,
    })
}

async fn search(search: Search, _request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let mut summary = Summary { orders: 0, amount: 0 };
    for order in orders() {
        let is_theirs = search
            .customer
            .as_ref()
            .is_none_or(|customer| *customer == order.customer);
        if is_theirs && order.amount >= search.at_least {
            summary.orders += 1;
            summary.amount += order.amount;
            out.send_as(&order).await?;
        }
    }
    out.finish_with(Json::encode(&summary).map_err(HandlerError::internal)?);
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let connection = Connection::connect(ConnectConfig::new(url)).await?;
    let server = Server::new(connection.clone());
    server.on_typed("examples.typed.search", search).await?;
    // One that has an item of another version among its orders.
    server
        .on_items("examples.typed.mixed", |_request| async {
            Ok([
                r#"{"id": 1, "customer": "ada", "amount": 5}"#,
                r#"{"id": "two"}"#,
                r#"{"id": 3, "customer": "ada", "amount": 7}"#,
            ])
        })
        .await?;

    let pool = Pool::new(connection);
    let question = Search {
        customer: Some("grace".to_owned()),
        at_least: 900,
    };
    let mut orders = pool
        .request_stream_as("examples.typed.search", &question)
        .typed::<Order>()
        .await?;
    while let Some(order) = orders.try_next().await? {
        anyhow::ensure!(order.customer == "grace" && order.id >= 900, "not asked for: {order:?}");
    }
    let summary = orders
        .trailers()
        .map(|bytes| Json::decode::<Summary>(bytes))
        .transpose()?;
    println!("{} orders; {summary:?}", orders.received());

    // A question that is none fails before the handler runs, and says why.
    let mut refused = pool.request_stream("examples.typed.search", "grace, please").await?;
    let Err(error) = refused.try_next().await else {
        anyhow::bail!("it was taken for a question");
    };
    println!("no question: {:?}", error.status().map(|status| status.code));

    // An item that is none does not end the answer. Whoever does not want the rest leaves by `?`.
    let mut orders = pool.request_stream("examples.typed.mixed", "").typed::<Order>().await?;
    while let Some(order) = orders.next().await {
        match order {
            Ok(order) => println!("order {}", order.id),
            Err(error) => println!("item {}: {:?}", error.items(), error.kind()),
        }
    }
    server.drain(Duration::from_secs(5)).await;
    Ok(())
}
