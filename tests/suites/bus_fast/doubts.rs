//! Events that come to the stream twice, and what proves that it has them.

use async_nats::header::{NATS_EXPECTED_LAST_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::{HeaderMap, Subscriber};
use futures_util::StreamExt as _;
use integration::leaders;
use natstream::ConnectConfig;
use testkit::{Cluster, Flow, NatsServer, Proxy, unique_subject};

use super::*;

/// A batch is forgotten after 1 s, instead of 10 s.
const FORGETFUL: &str = r#"jetstream { limits { batch { timeout: "1s" } } }"#;

/// A bus behind a proxy.
async fn behind(url: &str) -> (FastBus, Proxy) {
    let proxy = Proxy::start(url).await;
    let config = ConnectConfig::new(proxy.url()).ignore_discovered_servers();
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    let patient = |builder: FastBusBuilder| builder.deadline(LONG).answer_timeout(LONG);
    let (bus, _failed) = open(&connection, Doubt::WithIds, patient).await;
    (bus, proxy)
}

/// The event comes to the server, and is in doubt: the answer is lost, and the batch is forgotten.
async fn doubt(bus: &FastBus, proxy: &Proxy, heard: &mut Subscriber, event: Event) {
    proxy.blackhole(Flow::ToClient, true);
    within(LIMIT, bus.enqueue(event)).await.expect("accepted");
    within(LIMIT, heard.next()).await.expect("it has come");
    // sleep: as long as it takes the server to forget the batch, and to be sure of it
    tokio::time::sleep(Duration::from_millis(2500)).await;
    proxy.cut();
    proxy.blackhole(Flow::ToClient, false);
}

/// The next question that the bus asks, by its id.
async fn question(heard: &mut Subscriber) -> String {
    loop {
        let message = heard.next().await.expect("it goes on");
        let header = |name| message.headers.as_ref().and_then(|headers| headers.get(name));
        if header(NATS_EXPECTED_LAST_SEQUENCE).is_some() {
            assert!(message.payload.is_empty());
            return header(NATS_MESSAGE_ID).expect("an id").to_string();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_twice_is_acked_when_the_stream_knows_its_id() {
    let nats = NatsServer::builder().jetstream(true).config(FORGETFUL).start().await;
    let admin = integration::connection(&nats.url()).await;
    fast_stream(&admin, |spec| spec).await;
    let mut heard = within(LIMIT, admin.nats().subscribe("s.>")).await.expect("subscribed");
    within(LIMIT, admin.nats().flush()).await.expect("flushed");
    let own = Event::new("s.x", "1").message_id("own");
    for (n, event) in [Event::new("s.x", "0"), own].into_iter().enumerate() {
        let (bus, proxy) = behind(&nats.url()).await;
        doubt(&bus, &proxy, &mut heard, event).await;
        let id = within(LIMIT, question(&mut heard)).await;
        assert_eq!(id == "own", n == 1, "{id}");
        within(LIMIT, bus.flush(LIMIT)).await.expect("acked");
        let stats = bus.stats();
        assert_eq!((stats.acked, stats.retried, stats.batches), (1, 1, 2));
    }
    assert_eq!(numbers(&admin, "S").await, [0, 1]);
}

/// nats-server takes an event that it has proposed, and cannot store, for a duplicate of itself, and tells of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_without_a_majority_has_only_proposed_is_not_acked() {
    let builder = Cluster::builder(3).jetstream(true).config(FORGETFUL);
    let mut cluster = within(LONG, builder.start()).await;
    let all = integration::connection(&cluster.url(0)).await;
    fast_stream(&all, |spec| spec.replicas(3)).await;
    let node = leaders::gather(&all, &["S"]).await;
    let leader: usize = node.trim_start_matches('n').parse().expect("a node");
    let url = cluster.url(leader);
    let admin = integration::connection(&url).await;
    let mut heard = within(LIMIT, admin.nats().subscribe("s.>")).await.expect("subscribed");
    within(LIMIT, admin.nats().flush()).await.expect("flushed");
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    let (bus, proxy) = behind(&url).await;
    for other in &others {
        cluster.node_mut(*other).kill();
    }
    doubt(&bus, &proxy, &mut heard, Event::new("s.x", "0")).await;
    // A machine that is so busy that the leader steps down before is asked nothing; then the event goes again.
    let _ = tokio::time::timeout(LIMIT, question(&mut heard)).await;
    assert_eq!(bus.stats().acked, 0, "nobody has it");
    for other in others {
        within(LONG, cluster.node_mut(other).restart()).await;
    }
    within(LONG, bus.flush(LONG)).await.expect("acked");
    assert_eq!(bus.stats().acked, 1);
    assert_eq!(numbers(bus.connection(), "S").await, [0]);
}

/// The question as `FastBus` asks it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_for_an_id_is_answered_and_never_stored() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let connection = integration::connection(&nats.url()).await;
    fast_stream(&connection, |spec| spec).await;
    let (bus, _failed) = open(&connection, Doubt::Unknown, |builder| builder).await;
    let known = Event::new("s.x", "0").message_id("known");
    within(LIMIT, bus.enqueue(known)).await.expect("accepted");
    within(LIMIT, bus.flush(LIMIT)).await.expect("acked");
    let client = connection.nats();
    let inbox = unique_subject("answers");
    let mut answers = within(LIMIT, client.subscribe(format!("{inbox}.>")))
        .await
        .expect("subscribed");
    for (id, expected) in [("known", None), ("unknown", Some(10071))] {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, i64::MAX.to_string());
        let reply = format!("{inbox}.{id}.500.fail.1.2.$FI");
        let asked = client.publish_with_reply_and_headers("s.x", reply, headers, "".into());
        within(LIMIT, asked).await.expect("sent");
        let answer = within(LIMIT, answers.next()).await.expect("an answer");
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert_eq!(answer["error"]["err_code"].as_u64(), expected, "{answer}");
        assert_eq!(
            answer["duplicate"].as_bool().unwrap_or(false),
            expected.is_none(),
            "{answer}"
        );
    }
    assert_eq!(numbers(&connection, "S").await, [0]);
}
