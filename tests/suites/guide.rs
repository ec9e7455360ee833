//! The lines for nats-server's configuration in `docs/guide/operating.md` are enough, and nothing is refused with them.

use std::fs;
use std::path::Path;

use integration::LIMIT;
use integration::numbers::{complete, count};
use natstream::connect::ServerErrorEvent;
use natstream::eventbus::topology::{ConsumerSpec, StreamSpec, Topology};
use natstream::eventbus::{Consumer, HandlerError};
use natstream::{Bus, ConnectConfig, Connection, Credentials, Dialect, Event, Pool, Server};
use testkit::{NatsServer, within};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

/// More than one message.
const LONG: &str = "20000";
const LONG_ITEMS: u64 = 20_000;

/// The block of the page that has this in it, with a password in place of each variable.
fn block(part: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = fs::read_to_string(root.join("docs/guide/operating.md")).expect("the page");
    let block = page
        .split("```text\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .find(|block| block.contains(part));
    let mut block = block.expect("such a block").to_owned();
    for variable in ["$SHOP", "$ORDERS", "$OPS"] {
        block = block.replace(&format!("password: {variable}"), "password: p");
    }
    block
}

/// A connection, and what nats-server complains about on it.
async fn connect(nats: &NatsServer, user: &str, inbox: &str) -> (Connection, Receiver<ServerErrorEvent>) {
    let config = ConnectConfig::new(nats.url())
        .credentials(Credentials::user_password(user, "p"))
        .inbox_prefix(inbox);
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    let complaints = connection.server_errors();
    (connection, complaints)
}

/// Nothing was refused of all that this connection has asked for.
async fn assert_content(connection: &Connection, mut complaints: Receiver<ServerErrorEvent>) {
    within(LIMIT, connection.fence(LIMIT)).await.expect("a round trip");
    assert!(matches!(complaints.try_recv(), Err(TryRecvError::Empty)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permissions_of_the_page_are_enough() {
    let mail = format!(
        "{{ user: mail, password: p, permissions: {{ {} }} }}",
        block("CONSUMER.MSG.NEXT")
    );
    let more = format!("users: [\n{{ user: all, password: p }}\n{mail}\n");
    let config = block("authorization {").replacen("users: [\n", &more, 1);
    let nats = within(LIMIT, NatsServer::builder().jetstream(true).config(config).start()).await;

    let (orders, of_orders) = connect(&nats, "orders", "_INBOX_orders").await;
    let (shop, of_shop) = connect(&nats, "shop", "_INBOX_shop").await;
    let server = Server::builder(orders.clone()).name("orders").build();
    within(LIMIT, server.on("orders.count", count)).await.expect("served");
    let pool = Pool::new(shop.clone());
    for dialect in [Dialect::Native, Dialect::Text] {
        complete(pool.request_stream("orders.count", LONG).dialect(dialect), LONG_ITEMS).await;
    }

    let (ops, of_ops) = connect(&nats, "ops", "_INBOX_ops").await;
    let stats = within(LIMIT, Pool::new(ops.clone()).request("$SRV.STATS.orders", "")).await;
    assert!(stats.is_ok(), "{stats:?}");

    let (all, _) = connect(&nats, "all", "_INBOX").await;
    let topology = Topology::new(all.clone());
    within(LIMIT, topology.ensure(&StreamSpec::new("ORDERS", ["stored.>"])))
        .await
        .expect("made");
    let bus = within(LIMIT, Bus::open(all)).await.expect("open");
    let events = (0..3).map(|number: u32| Event::json("stored.a", &number));
    assert!(within(LIMIT, bus.publish_batch(events)).await.is_complete());
    let (mail, of_mail) = connect(&nats, "mail", "_INBOX_mail").await;
    let consumer = Consumer::builder(mail.clone(), ConsumerSpec::new("ORDERS", "mail")).limit(3);
    let consumer = within(LIMIT, consumer.open()).await.expect("open");
    let consumed = consumer.for_each(|_message| async { Ok::<_, HandlerError>(()) });
    within(LIMIT, consumed).await.expect("consumed");
    assert_eq!((consumer.stats().handled, consumer.stats().unconfirmed), (3, 0));

    for (connection, complaints) in [(orders, of_orders), (shop, of_shop), (ops, of_ops), (mail, of_mail)] {
        assert_content(&connection, complaints).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_cross_the_accounts_of_the_page() {
    let nats = within(LIMIT, NatsServer::builder().config(block("exports: [")).start()).await;
    let (orders, of_orders) = connect(&nats, "orders", "_INBOX").await;
    let (shop, of_shop) = connect(&nats, "shop", "_INBOX").await;
    let server = Server::new(orders.clone());
    within(LIMIT, server.on("orders.count", count)).await.expect("served");
    complete(Pool::new(shop.clone()).request_stream("orders.count", LONG), LONG_ITEMS).await;
    assert_content(&orders, of_orders).await;
    assert_content(&shop, of_shop).await;
}
