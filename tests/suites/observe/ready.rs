//! What readiness probes ask.

use std::time::Duration;

use integration::consume::Desk;
use integration::{LIMIT, connection};
use natstream::Server;
use natstream::eventbus::Consumer;
use natstream::eventbus::topology::ConsumerSpec;
use testkit::{NatsServer, settles, shared_url, unique_subject, within};

#[tokio::test]
async fn a_server_is_ready_while_it_serves_and_is_connected() {
    let mut nats = within(LIMIT, NatsServer::start()).await;
    let server = Server::new(connection(&nats.url()).await);
    assert!(!server.is_ready(), "nothing is served");
    within(LIMIT, server.on(unique_subject("ready"), |_, _| async { Ok(()) }))
        .await
        .expect("served");
    assert!(server.is_ready());
    assert_eq!(server.endpoints().len(), 1);
    nats.kill();
    settles(LIMIT, || async { server.is_ready() }, false).await;
    within(LIMIT, nats.restart()).await;
    settles(LIMIT, || async { server.is_ready() }, true).await;
    within(LIMIT, server.drain(Duration::ZERO)).await;
    assert!(!server.is_ready() && server.endpoints().is_empty());
}

#[tokio::test]
async fn a_consumer_is_ready_until_it_drains() {
    let desk = Desk::new(connection(shared_url()).await).await;
    let builder = Consumer::builder(desk.connection.clone(), ConsumerSpec::new(&desk.stream, "c"));
    let consumer = within(LIMIT, builder.open()).await.expect("open");
    assert!(consumer.is_ready());
    consumer.drain();
    assert!(!consumer.is_ready());
}
