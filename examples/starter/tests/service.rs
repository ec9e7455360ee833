//! The service against a real nats-server: that of NATS_URL, or 127.0.0.1:4222.

use std::net::SocketAddr;
use std::time::Duration;

use natstream::{Code, Connection, Pool, RequestErrorKind};
use orders::{Order, Search, Service, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Subjects that nobody else has, and a port of its own.
fn settings(prefix: &str) -> Settings {
    let own = [("ORDERS_PREFIX", prefix), ("ORDERS_HEALTH", "127.0.0.1:0")];
    let own = own.map(|(name, value)| (name.into(), value.into()));
    Settings::load(std::env::vars_os().chain(own)).expect("good settings")
}

async fn health(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("it reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("it answers");
    answer
}

async fn test() {
    let prefix = format!("orders-test-{}", std::process::id());
    let settings = settings(&prefix);
    let connection = Connection::connect(settings.connect.clone())
        .await
        .expect("a nats-server");
    let service = Service::start(settings).await.expect("it starts");
    let address = service.health().expect("an address");
    assert!(health(address).await.starts_with("HTTP/1.1 200 "));

    let (pool, subject) = (Pool::new(connection), format!("{prefix}.search"));
    let ask = async |customer: &str| {
        let search = Search {
            customer: customer.to_owned(),
            at_least: 5000,
        };
        let orders = pool
            .request_stream_as(&subject, &search)
            .typed::<Order>()
            .await?;
        orders.collect_all(1 << 20).await
    };
    let found = ask("grace").await.expect("a complete answer");
    assert_eq!(found.len(), 167);
    assert!(
        found
            .iter()
            .all(|order| order.customer == "grace" && order.amount >= 5000)
    );
    assert_eq!(ask("nobody").await.expect("a complete answer"), []);
    let refused = ask("").await.expect_err("whose?");
    let code = refused.status().map(|status| status.code);
    assert_eq!(code, Some(Code::InvalidArgument));

    assert_eq!(service.stop().await.aborted, 0);
    let gone = ask("grace").await.expect_err("nobody serves");
    assert_eq!(gone.kind(), RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn the_service_answers_and_stops_in_order() {
    // A fault is to fail, and not to hang.
    timeout(Duration::from_secs(60), test())
        .await
        .expect("in time");
}
