//! Peers that name subjects which act (rule 6).

use futures_util::StreamExt as _;
use integration::numbers::{count, sent};
use integration::{LIMIT, Peers, connection};
use natstream::async_nats::{Client, HeaderMap};
use natstream::{ForeignDialect, Pool, Server};
use testkit::{settles, settles_where, shared_url, unique_name, unique_subject, within};

/// Unit 0 of a stream, with one item.
const FIRST: &[u8] = &[0xfe, 0x01, 0, 0, 0, 9, 0, 0, 1, b'x'];

/// The unit after it, with another item and the end.
const LAST: &[u8] = &[0xfe, 0x01, 0, 0, 0, 9, 1, 0x41, 2, 6, 0, 0, 0, 2, 0, 0, 1, b'x'];

/// A JetStream stream with ten messages, which an empty message to `delete` deletes.
struct Orders {
    nats: Client,
    name: String,
    delete: String,
    purge: String,
}

impl Orders {
    async fn create(nats: &Client) -> Self {
        let (name, subject) = (unique_name("ORDERS"), unique_subject("orders"));
        let orders = Self {
            nats: nats.clone(),
            delete: format!("$JS.API.STREAM.DELETE.{name}"),
            purge: format!("$JS.API.STREAM.PURGE.{name}"),
            name,
        };
        let config = format!(
            "{{\"name\": \"{}\", \"subjects\": [\"{subject}\"], \"storage\": \"memory\"}}",
            orders.name
        );
        orders.api("CREATE", &config).await;
        for _ in 0..10 {
            let kept = within(LIMIT, nats.request(subject.clone(), "order".into())).await;
            kept.expect("kept");
        }
        assert!(orders.is_whole().await);
        orders
    }

    /// What JetStream says to a request about the stream.
    async fn api(&self, verb: &str, payload: &str) -> String {
        let subject = format!("$JS.API.STREAM.{verb}.{}", self.name);
        let answer = within(LIMIT, self.nats.request(subject, payload.to_owned().into())).await;
        String::from_utf8_lossy(&answer.expect("an answer").payload).into_owned()
    }

    async fn is_whole(&self) -> bool {
        self.api("INFO", "").await.contains("\"messages\":10,")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_cannot_have_a_server_delete_a_stream() {
    let Peers { server, .. } = Peers::connect().await;
    let stranger = connection(shared_url()).await;
    let nats = stranger.nats();
    let orders = Orders::create(nats).await;
    // A prefix that somebody allows does not change it.
    let careless = Server::builder(server.connection().clone())
        .reply_prefix("$JS.")
        .build();
    for server in [&server, &careless] {
        for (foreign, limit) in [
            (ForeignDialect::Text, 100),
            (ForeignDialect::Sentinel, 100),
            (ForeignDialect::Refuse, 100),
            (ForeignDialect::Sentinel, 0),
        ] {
            let subject = unique_subject("hostile");
            let endpoint = server
                .on(&subject, count)
                .foreign_dialect(foreign)
                .max_concurrent(limit);
            let endpoint = within(LIMIT, endpoint).await.expect("served");
            for reply in [&orders.delete, &orders.purge] {
                let plain = nats.publish_with_reply(subject.clone(), reply.clone(), "0".into());
                plain.await.expect("sent");
                let mut headers = HeaderMap::new();
                headers.insert("Natstream", "1;w=65536");
                let native = nats.publish_with_reply_and_headers(subject.clone(), reply.clone(), headers, "0".into());
                native.await.expect("sent");
            }
            settles(LIMIT, async || endpoint.stats().requests, 4).await;
            let stats = endpoint.stats();
            assert_eq!(
                (stats.refused_subjects, stats.finished, stats.refused),
                (4, 0, 0),
                "{foreign:?}"
            );
        }
        within(LIMIT, server.connection().fence(LIMIT))
            .await
            .expect("everything was sent");
        assert!(orders.is_whole().await, "the stream was deleted");
    }
    // The proof that such a message would act.
    within(LIMIT, nats.publish(orders.delete.clone(), "".into()))
        .await
        .expect("sent");
    within(LIMIT, stranger.fence(LIMIT)).await.expect("processed");
    settles(LIMIT, async || orders.is_whole().await, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_responder_cannot_have_a_caller_delete_a_stream() {
    let caller = connection(shared_url()).await;
    let stranger = connection(shared_url()).await;
    let nats = stranger.nats();
    let orders = Orders::create(nats).await;
    let asked = unique_subject("hostile");
    let mut requests = within(LIMIT, nats.subscribe(asked.clone())).await.expect("subscribed");
    within(LIMIT, stranger.fence(LIMIT)).await.expect("subscribed");
    let served = unique_subject("served");
    let server = Server::new(caller.clone());
    let endpoint = within(LIMIT, server.on(&served, count)).await.expect("served");
    // A prefix that somebody allows changes nothing for `$`, nor for what the same connection serves.
    let careless = Pool::builder(caller.clone())
        .control_prefix("$JS.")
        .control_prefix("served.")
        .build();
    for pool in [&Pool::new(caller.clone()), &careless] {
        for control in [&orders.delete, &orders.purge, &served] {
            let before = pool.stats();
            let mut ask = async || {
                let call = sent(pool.request_stream(&asked, "")).await;
                let request = within(LIMIT, requests.next()).await.expect("a request");
                (call, request.reply.expect("a reply subject"))
            };
            let answer = async |reply: &str, payload: &[u8]| {
                let mut headers = HeaderMap::new();
                headers.insert("Natstream", "1;r=65536;h=1000");
                let payload = payload.to_vec().into();
                let sent = nats.publish_with_reply_and_headers(reply.to_owned(), control.clone(), headers, payload);
                sent.await.expect("sent");
            };
            // One that is read to its end, which a caller confirms at the control subject.
            let (mut call, reply) = ask().await;
            answer(&reply, FIRST).await;
            answer(&reply, LAST).await;
            for _ in 0..2 {
                let item = within(LIMIT, call.try_next()).await.expect("an item");
                assert_eq!(item.as_deref(), Some(&b"x"[..]));
            }
            assert_eq!(within(LIMIT, call.try_next()).await.expect("complete"), None);
            // One that is cancelled, which a caller says there too, also to what comes later.
            let (mut call, reply) = ask().await;
            answer(&reply, FIRST).await;
            assert!(within(LIMIT, call.try_next()).await.expect("an item").is_some());
            drop(call);
            answer(&reply, LAST).await;
            let stats = settles_where(LIMIT, async || pool.stats(), |stats| stats.strays > before.strays).await;
            assert_eq!(stats.refused_subjects - before.refused_subjects, 4, "{control}");
        }
    }
    within(LIMIT, caller.fence(LIMIT)).await.expect("everything was sent");
    assert!(orders.is_whole().await, "the stream was deleted");
    assert_eq!(endpoint.stats().requests, 0, "a caller talked to its own process");
}
