//! Levels of a real nats-server that go up and return.

use std::{future::ready, time::Duration};

use testkit::{Flow, NatsServer, Proxy, alive_tasks, resident_memory, settles, settles_where, unique_subject, within};

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_a_client_takes_it_gives_back() {
    let server = within(LONG, NatsServer::builder().monitoring(true).start()).await;
    let (before, tasks) = (server.levels().await, alive_tasks());
    assert_eq!(before.connections, 0);

    let client = within(LONG, async_nats::connect(server.url())).await.unwrap();
    let mut subscriptions = Vec::new();
    for _ in 0..10 {
        subscriptions.push(client.subscribe(unique_subject("leaks")).await.unwrap());
    }
    let mut with = before;
    with.connections += 1;
    with.subscriptions += 10;
    settles(LONG, || server.levels(), with).await;
    assert!(alive_tasks() > tasks);
    let page = server.page("/connz?subs=1").await;
    assert_eq!(
        page["connections"][0]["subscriptions_list"].as_array().unwrap().len(),
        10
    );
    assert_eq!(server.page("/subsz").await["num_subscriptions"], with.subscriptions);

    drop((client, subscriptions));
    within(LONG, settles(LONG, || server.levels(), before)).await;
    settles(LONG, || ready(alive_tasks()), tasks).await;
}

#[tokio::test]
async fn a_client_that_vanished_stays_until_it_is_cut() {
    let server = within(LONG, NatsServer::builder().monitoring(true).start()).await;
    let before = server.levels().await;
    let proxy = Proxy::start(server.url()).await;
    let client = within(LONG, async_nats::connect(proxy.url())).await.unwrap();
    settles_where(LONG, || server.levels(), |levels| levels.connections == 1).await;

    proxy.half_open(Flow::ToServer, true);
    drop(client);
    assert_eq!(server.levels().await.connections, 1);
    proxy.cut();
    settles(LONG, || server.levels(), before).await;
    within(LONG, proxy.idle()).await;
}

#[tokio::test]
async fn a_server_has_memory() {
    let server = within(LONG, NatsServer::start()).await;
    assert!(resident_memory(server.pid()) > 1 << 20);
}
