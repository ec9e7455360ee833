//! Service discovery (ADR-32): what `$SRV` says about servers, and what their endpoints count.

use std::time::Duration;

use async_nats::RequestErrorKind as NatsErrorKind;
use futures_util::{FutureExt as _, StreamExt as _};
use integration::{LIMIT, Peers, connection};
use natstream::{
    Code, ConnectConfig, Connection, Credentials, Endpoint, HandlerError, Pool, Request, RequestErrorKind,
    ResponseSender, ServeErrorKind, Server,
};
use serde_json::{Value, json};
use testkit::{NatsServer, settles_where, shared_url, unique_name, unique_subject, within};

/// A server of its own name, with an endpoint that does what it is asked to, and somebody who asks.
struct Service {
    pool: Pool,
    server: Server,
    endpoint: Endpoint,
    subject: String,
}

impl Service {
    async fn start() -> Self {
        let server = Server::builder(connection(shared_url()).await)
            .name(unique_name("services"))
            .version("1.2.3")
            .description("does what it is asked to")
            .metadata("zone", "a")
            .build();
        let subject = unique_subject("services");
        let endpoint = server
            .on(&subject, obey)
            .name("obey")
            .metadata("key", "value")
            .max_concurrent(1);
        Self {
            pool: Pool::new(connection(shared_url()).await),
            endpoint: within(LIMIT, endpoint).await.expect("served"),
            server,
            subject,
        }
    }

    fn address(&self, verb: &str) -> String {
        format!("$SRV.{verb}.{}.{}", self.server.name(), self.server.id())
    }

    async fn ask(&self, verb: &str) -> Value {
        ask(self.pool.connection().expect("one connection"), self.address(verb)).await
    }

    /// What `$SRV.STATS` says of the endpoint.
    async fn stats(&self) -> Value {
        self.ask("STATS").await["endpoints"][0].clone()
    }

    async fn call(&self, order: &'static str) -> natstream::Responses {
        within(LIMIT, self.pool.request_stream(&self.subject, order))
            .await
            .expect("sent")
    }

    /// A call that has ended: the server does not count it as running any more.
    async fn ended(&self) {
        settles_where(LIMIT, || async { self.endpoint.stats() }, |stats| stats.active == 0).await;
    }
}

/// Sends three items of three bytes, and then does what the request says.
async fn obey(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    for item in ["one", "two", "six"] {
        out.send(item).await?;
    }
    match &request.payload()[..] {
        b"fail" => return Err(HandlerError::not_found("no such thing")),
        b"wait" => drop(out.closed().await),
        b"stay" => std::future::pending().await,
        b"much" => {
            for _ in 0..64 {
                out.send([0; 4096]).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// What the one that is asked answers.
async fn ask(connection: &Connection, subject: String) -> Value {
    let answer = within(LIMIT, connection.nats().request(subject, "".into())).await;
    serde_json::from_slice(&answer.expect("an answer").payload).expect("an answer is JSON")
}

/// The ids of all that answer until `count` of those that are `wanted` have.
async fn ids(connection: &Connection, subject: &str, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
    let nats = connection.nats();
    let inbox = nats.new_inbox();
    let mut answers = within(LIMIT, nats.subscribe(inbox.clone())).await.expect("subscribed");
    within(LIMIT, nats.publish_with_reply(subject.to_owned(), inbox, "".into()))
        .await
        .expect("sent");
    let mut ids = Vec::new();
    while ids.len() < count {
        let answer = within(LIMIT, answers.next()).await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.payload).expect("an answer is JSON");
        if wanted(&answer) {
            ids.push(answer["id"].as_str().expect("an id").to_owned());
        }
    }
    ids.sort();
    ids
}

#[tokio::test]
async fn a_server_answers_to_everybody_to_its_name_and_to_its_id() {
    let service = Service::start().await;
    let (name, id) = (service.server.name(), service.server.id());
    for (verb, kind) in [("PING", "ping"), ("INFO", "info"), ("STATS", "stats")] {
        let own = service.ask(verb).await;
        let named = ask(
            service.pool.connection().expect("one connection"),
            format!("$SRV.{verb}.{name}"),
        )
        .await;
        for answer in [&own, &named] {
            assert_eq!(answer["type"], format!("io.nats.micro.v1.{kind}_response"));
            assert_eq!((&answer["name"], &answer["id"]), (&json!(name), &json!(id)));
            assert_eq!(answer["version"], "1.2.3");
            assert_eq!(answer["metadata"], json!({"zone": "a"}));
        }
        // Other tests use the same nats-server.
        let is_ours = |answer: &Value| answer["id"] == id;
        ids(
            service.pool.connection().expect("one connection"),
            &format!("$SRV.{verb}"),
            1,
            is_ours,
        )
        .await;
    }
    let info = service.ask("INFO").await;
    assert_eq!(info["description"], "does what it is asked to");
    let expected = json!([{
        "name": "obey",
        "subject": service.subject,
        "queue_group": "q",
        "metadata": {"key": "value", "natstream": "1"},
    }]);
    assert_eq!(info["endpoints"], expected);
}

#[tokio::test]
async fn servers_of_one_name_all_answer() {
    let name = unique_name("services");
    let mut servers = Vec::new();
    for _ in 0..2 {
        let server = Server::builder(connection(shared_url()).await).name(&name).build();
        let endpoint = server.on(unique_subject("services"), obey).no_queue_group();
        within(LIMIT, endpoint).await.expect("served");
        servers.push(server);
    }
    let mut expected: Vec<_> = servers.iter().map(|server| server.id().to_owned()).collect();
    expected.sort();
    let asking = connection(shared_url()).await;
    let answered = ids(&asking, &format!("$SRV.PING.{name}"), 2, |_| true).await;
    assert_eq!(answered, expected);
    let info = ask(&asking, format!("$SRV.INFO.{name}.{}", servers[0].id())).await;
    assert_eq!(info["endpoints"][0]["queue_group"], "", "it has none");
}

#[tokio::test]
async fn statistics_tell_how_calls_ended() {
    let service = Service::start().await;
    let items = within(LIMIT, service.call("").await.collect_all(1024)).await;
    assert_eq!(items.expect("complete").len(), 3);
    service.ended().await;
    let failed = within(LIMIT, service.call("fail").await.collect_all(1024)).await;
    assert_eq!(failed.expect_err("it failed").kind(), RequestErrorKind::Failed);
    service.ended().await;
    let mut cancelled = service.call("wait").await;
    within(LIMIT, cancelled.try_next()).await.expect("an item");
    let refused = within(LIMIT, service.call("").await.try_next()).await;
    assert_eq!(refused.expect_err("full").kind(), RequestErrorKind::Refused);
    drop(cancelled);
    service.ended().await;

    let stats = service.endpoint.stats();
    assert_eq!(
        (stats.requests, stats.begun, stats.active, stats.queued),
        (4, 3, 0, 0),
        "{stats:?}"
    );
    assert_eq!(
        (stats.finished, stats.failed, stats.cancelled, stats.refused),
        (1, 1, 1, 1)
    );
    assert_eq!((stats.items, stats.bytes), (9, 27));
    assert_eq!(stats.errors, [(Code::NotFound, 1), (Code::ResourceExhausted, 1)]);
    assert!(stats.processing_time >= stats.average_duration() && !stats.average_duration().is_zero());

    let told = service.stats().await;
    assert_eq!(
        (&told["name"], &told["subject"]),
        (&json!("obey"), &json!(service.subject))
    );
    assert_eq!((&told["num_requests"], &told["num_errors"]), (&json!(4), &json!(2)));
    assert!(
        told["last_error"]
            .as_str()
            .is_some_and(|text| text.starts_with("RESOURCE_EXHAUSTED"))
    );
    let total = u64::try_from(stats.processing_time.as_nanos()).expect("not that long");
    assert_eq!(told["processing_time"], total);
    assert_eq!(told["average_processing_time"], total / 4);
    let data = &told["data"];
    assert_eq!(data["natstream"], "1");
    for (field, value) in [
        ("begun", 3),
        ("active", 0),
        ("queued", 0),
        ("finished", 1),
        ("failed", 1),
        ("cancelled", 1),
        ("refused", 1),
        ("items", 9),
        ("bytes", 27),
    ] {
        assert_eq!(data[field], value, "{field}");
    }
    assert_eq!(data["errors"], json!({"NOT_FOUND": 1, "RESOURCE_EXHAUSTED": 1}));
}

#[tokio::test]
async fn statistics_include_calls_that_run() {
    let service = Service::start().await;
    let mut responses = service.call("wait").await;
    within(LIMIT, responses.try_next()).await.expect("an item");
    let stats = service.stats().await;
    let data = &stats["data"];
    assert_eq!((&data["active"], &data["finished"]), (&json!(1), &json!(0)));
    assert_eq!((&data["items"], &data["bytes"]), (&json!(3), &json!(9)));
    assert_ne!(stats["processing_time"], 0);
    drop(responses);
    service.ended().await;
    let after = service.endpoint.stats();
    assert_eq!((after.items, after.cancelled), (3, 1), "counted once");
}

#[tokio::test]
async fn a_handler_that_outlives_its_stream_counts_once() {
    let service = Service::start().await;
    let mut responses = service.call("stay").await;
    within(LIMIT, responses.try_next()).await.expect("an item");
    drop(responses);
    let stats = || async { service.endpoint.stats() };
    let stats = settles_where(LIMIT, stats, |stats| stats.cancelled == 1).await;
    assert_eq!((stats.active, stats.queued, stats.items, stats.bytes), (1, 0, 3, 9));
}

#[tokio::test]
async fn calls_in_the_queue_are_told() {
    let Peers { pool, server } = Peers::connect().await;
    let subject = unique_subject("services");
    let endpoint = server.on(&subject, obey).max_concurrent(1).max_queued(5);
    let endpoint = within(LIMIT, endpoint).await.expect("served");
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(
            within(LIMIT, pool.request_stream(&subject, "wait"))
                .await
                .expect("sent"),
        );
    }
    let stats = settles_where(LIMIT, || async { endpoint.stats() }, |stats| stats.requests == 3).await;
    assert_eq!((stats.begun, stats.active, stats.queued), (1, 1, 2));
    drop(calls);
    settles_where(LIMIT, || async { endpoint.stats() }, |stats| stats.cancelled == 3).await;
    assert_eq!(endpoint.stats().queued, 0);
}

#[tokio::test]
async fn a_caller_that_does_not_read_stalls_its_sender() {
    let service = Service::start().await;
    let request = service.pool.request_stream(&service.subject, "much").window(8192);
    let responses = within(LIMIT, request).await.expect("sent");
    let is_stalled = |stats: &natstream::EndpointStats| stats.stalled > Duration::from_millis(20);
    let running = settles_where(LIMIT, || async { service.endpoint.stats() }, is_stalled).await;
    assert_eq!((running.active, running.finished), (1, 0));
    let items = within(LIMIT, responses.collect_all(1 << 20)).await;
    assert_eq!(items.expect("complete").len(), 67);
    service.ended().await;
    let ended = service.endpoint.stats();
    assert!(ended.stalled >= running.stalled && ended.stalled <= ended.processing_time);
    assert!(service.stats().await["data"]["stalled_ns"].as_u64() > Some(20_000_000));
}

#[tokio::test]
async fn an_endpoint_that_was_left_is_not_told() {
    let service = Service::start().await;
    let other = unique_subject("services");
    let rest = within(LIMIT, service.server.on(&other, obey)).await.expect("served");
    assert_eq!(service.ask("INFO").await["endpoints"].as_array().map(Vec::len), Some(2));
    within(LIMIT, service.endpoint.unsubscribe()).await;
    for verb in ["INFO", "STATS"] {
        let answer = service.ask(verb).await;
        assert_eq!(answer["endpoints"].as_array().map(Vec::len), Some(1), "{verb}");
        assert_eq!(answer["endpoints"][0]["subject"], other);
    }
    within(LIMIT, rest.unsubscribe()).await;
    let request = async_nats::Request::new().timeout(Some(Duration::from_millis(200)));
    let nats = service.pool.connection().expect("one connection").nats();
    let answer = within(LIMIT, nats.send_request(service.address("PING"), request)).await;
    assert_eq!(
        answer.expect_err("silent").kind(),
        NatsErrorKind::TimedOut,
        "it has none"
    );
}

#[tokio::test]
async fn a_server_that_was_drained_or_dropped_is_silent() {
    for is_drained in [true, false] {
        let Service {
            pool, server, endpoint, ..
        } = Service::start().await;
        let subject = format!("$SRV.PING.{}.{}", server.name(), server.id());
        ask(pool.connection().expect("one connection"), subject.clone()).await;
        if is_drained {
            within(LIMIT, server.drain(LIMIT)).await;
        } else {
            drop((server, endpoint));
        }
        // Its subscriptions may be there for a moment, and nobody answers them.
        let nats = pool.connection().expect("one connection").nats();
        let gone = async {
            loop {
                let request = async_nats::Request::new().timeout(Some(Duration::from_millis(200)));
                let answer = nats.send_request(subject.clone(), request).await;
                match answer.expect_err("silent").kind() {
                    NatsErrorKind::TimedOut => {}
                    kind => return kind,
                }
            }
        };
        assert_eq!(within(LIMIT, gone).await, NatsErrorKind::NoResponders);
    }
}

#[tokio::test]
async fn a_reply_subject_that_acts_gets_nothing() {
    const DANGEROUS: &str = "$JS.API.STREAM.DELETE.X";
    let nats = NatsServer::start().await;
    let server = Server::new(connection(&nats.url()).await);
    within(LIMIT, server.on("services", obey)).await.expect("served");
    let asking = connection(&nats.url()).await;
    let mut victim = within(LIMIT, asking.nats().subscribe(DANGEROUS))
        .await
        .expect("subscribed");
    for verb in ["PING", "INFO", "STATS"] {
        let subject = format!("$SRV.{verb}");
        let publish = asking.nats().publish_with_reply(subject.clone(), DANGEROUS, "".into());
        within(LIMIT, publish).await.expect("sent");
        within(LIMIT, asking.nats().publish(subject.clone(), "".into()))
            .await
            .expect("sent");
        // What comes after the two is answered, so they have been looked at.
        ask(&asking, subject).await;
    }
    assert_eq!(server.stats().refused_subjects, 6);
    within(LIMIT, asking.fence(LIMIT)).await.expect("a round trip");
    assert!(victim.next().now_or_never().is_none(), "an answer acted");
}

#[tokio::test]
async fn a_server_that_may_not_be_found_serves() {
    let config = r#"authorization { users = [
        { user: some, password: p, permissions: { subscribe: { deny: ["$SRV.>"] } } }
        { user: all, password: p }
    ] }"#;
    let nats = NatsServer::builder().config(config).start().await;
    let connect = async |user: &str| {
        let config = ConnectConfig::new(nats.url()).credentials(Credentials::user_password(user, "p"));
        within(LIMIT, Connection::connect(config)).await.expect("connected")
    };
    let server = Server::new(connect("some").await);
    within(LIMIT, server.on("services", obey)).await.expect("served");
    let pool = Pool::new(connect("all").await);
    let responses = within(LIMIT, pool.request_stream("services", "")).await.expect("sent");
    let items = within(LIMIT, responses.collect_all(1024)).await;
    assert_eq!(items.expect("complete").len(), 3);
    let error = within(
        LIMIT,
        pool.connection()
            .expect("one connection")
            .nats()
            .request("$SRV.PING", "".into()),
    )
    .await;
    assert_eq!(error.expect_err("nobody").kind(), NatsErrorKind::NoResponders);
}

#[tokio::test]
async fn names_and_versions_that_cannot_be_are_refused_by_the_first_endpoint() {
    let connection = connection(shared_url()).await;
    let builder = || Server::builder(connection.clone());
    let subject = unique_subject("services");
    for server in [
        builder().name("a.b").build(),
        builder().name("").build(),
        builder().version("1.0").build(),
    ] {
        let error = within(LIMIT, server.on(&subject, obey)).await.expect_err("refused");
        assert_eq!(error.kind(), ServeErrorKind::InvalidConfig);
    }
    let server = builder().build();
    let error = within(LIMIT, server.on(&subject, obey).name("a b"))
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ServeErrorKind::InvalidConfig);
    assert_eq!(server.name(), "natstream");
    // The default name of an endpoint is made of any subject.
    within(LIMIT, server.on(format!("{subject}.*.>"), obey))
        .await
        .expect("served");
}
