//! Programs that know nothing of the native dialect, in both roles, with plain async-nats as the stranger.

use std::time::Duration;

use futures_util::StreamExt as _;
use integration::{LIMIT, Peers};
use natstream::async_nats::{Client, HeaderMap, Message, Subscriber};
use natstream::proto::CloseReason;
use natstream::{
    Clock, Code, Connection, Dialect, ForeignDialect, Guarantee, HandlerError, Request, RequestErrorKind,
    ResponseSender, SendErrorKind, Termination,
};
use testkit::{unique_name, unique_subject, within};
use tokio::sync::mpsc;

const PLAIN: [(ForeignDialect, Dialect, Dialect); 2] = [
    (ForeignDialect::Text, Dialect::Text, Dialect::AutoText),
    (ForeignDialect::Sentinel, Dialect::Sentinel, Dialect::AutoSentinel),
];

/// A request as other programs make it: an inbox of its own, and the answer's messages.
async fn ask(nats: &Client, subject: &str, headers: Option<HeaderMap>) -> Subscriber {
    let inbox = nats.new_inbox();
    let answers = within(LIMIT, nats.subscribe(inbox.clone())).await.expect("subscribed");
    let sent = match headers {
        Some(headers) => {
            nats.publish_with_reply_and_headers(subject.to_owned(), inbox, headers, "".into())
                .await
        }
        None => nats.publish_with_reply(subject.to_owned(), inbox, "".into()).await,
    };
    sent.expect("sent");
    answers
}

async fn next(answers: &mut Subscriber) -> Message {
    within(LIMIT, answers.next()).await.expect("a message")
}

async fn payload(answers: &mut Subscriber) -> String {
    String::from_utf8(next(answers).await.payload.to_vec()).expect("text")
}

/// A stranger that answers each request on `subject` with `messages`.
async fn responder(connection: &Connection, subject: &str, messages: &'static [&'static str]) {
    let nats = connection.nats().clone();
    let mut requests = within(LIMIT, nats.subscribe(subject.to_owned()))
        .await
        .expect("subscribed");
    // Others may ask now: a flush of async-nats would not say so.
    within(LIMIT, connection.fence(LIMIT))
        .await
        .expect("nats-server has it");
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let reply = request.reply.expect("a reply subject");
            for message in messages {
                nats.publish(reply.clone(), (*message).into()).await.expect("sent");
            }
        }
    });
}

async fn count(_: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    for number in 0..1000 {
        out.send(number.to_string()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_the_items_and_the_end() {
    let peers = Peers::connect().await;
    for (foreign, ..) in PLAIN {
        let subject = unique_subject("count");
        let endpoint = peers.server.on(&subject, count).foreign_dialect(foreign);
        within(LIMIT, endpoint).await.expect("served");
        let mut answers = ask(peers.pool.connection().expect("one connection").nats(), &subject, None).await;
        for number in 0..1000 {
            assert_eq!(payload(&mut answers).await, number.to_string());
        }
        let end = next(&mut answers).await;
        match foreign {
            ForeignDialect::Text => assert_eq!(end.payload, "__STREAM_END__"),
            _ => assert!(end.payload.is_empty() && end.headers.is_none()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_told_of_a_failure_after_the_items() {
    let peers = Peers::connect().await;
    let fail = |_: Request, mut out: ResponseSender| async move {
        out.send("1").await?;
        Err(HandlerError::new(Code::NotFound, "找不到文件"))
    };
    for (foreign, ..) in PLAIN {
        let subject = unique_subject("fail");
        within(LIMIT, peers.server.on(&subject, fail).foreign_dialect(foreign))
            .await
            .expect("served");
        let mut answers = ask(peers.pool.connection().expect("one connection").nats(), &subject, None).await;
        assert_eq!(payload(&mut answers).await, "1");
        let end = next(&mut answers).await;
        if foreign == ForeignDialect::Text {
            assert_eq!(end.payload, "__STREAM_ERROR__:找不到文件");
        } else {
            let headers = end.headers.expect("the failure");
            assert_eq!(headers.get("Nats-Service-Error-Code").expect("a code").as_str(), "5");
            assert!(headers.get("Nats-Service-Error").is_some());
            let last = next(&mut answers).await;
            assert!(end.payload.is_empty() && last.payload.is_empty() && last.headers.is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_of_ours_understand_each_other_in_every_dialect() {
    let peers = Peers::connect().await;
    for (foreign, plain, auto) in PLAIN {
        let subject = unique_subject("count");
        within(LIMIT, peers.server.on(&subject, count).foreign_dialect(foreign))
            .await
            .expect("served");
        for (dialect, guarantee) in [
            (Dialect::Native, Guarantee::Complete),
            (plain, Guarantee::Plain),
            (auto, Guarantee::Complete),
        ] {
            let request = peers.pool.request_stream(&subject, "").dialect(dialect);
            let mut responses = within(LIMIT, request).await.expect("sent");
            for number in 0..1000 {
                let item = within(LIMIT, responses.try_next())
                    .await
                    .expect("an item")
                    .expect("no end yet");
                assert_eq!(item, number.to_string(), "{dialect}");
            }
            assert_eq!(
                within(LIMIT, responses.try_next()).await.expect("the end"),
                None,
                "{dialect}"
            );
            assert_eq!(responses.guarantee(), guarantee, "{dialect}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_of_a_stranger_is_read() {
    let peers = Peers::connect().await;
    let stranger = peers.server.connection().clone();
    let answers: [(&[&str], &[&str]); 2] = [
        (&["a", "", "b", "__STREAM_END__", "late"], &["a", "", "b"]),
        (&["__STREAM_END__"], &[]),
    ];
    for (sent, expected) in answers {
        let subject = unique_subject("text");
        responder(&stranger, &subject, sent).await;
        for dialect in [Dialect::Text, Dialect::AutoText] {
            let request = peers.pool.request_stream(&subject, "").dialect(dialect);
            let responses = within(LIMIT, request).await.expect("sent");
            let items = within(LIMIT, responses.collect_all(1000)).await.expect("complete");
            assert_eq!(items, expected, "{dialect}");
        }
    }
    let subject = unique_subject("sentinel");
    responder(&stranger, &subject, &["a", "__STREAM_END__", ""]).await;
    for dialect in [Dialect::Sentinel, Dialect::AutoSentinel] {
        let request = peers.pool.request_stream(&subject, "").dialect(dialect);
        let responses = within(LIMIT, request).await.expect("sent");
        let items = within(LIMIT, responses.collect_all(1000)).await.expect("complete");
        assert_eq!(items, ["a", "__STREAM_END__"], "{dialect}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stranger_does_badly_is_an_error() {
    let peers = Peers::connect().await;
    let stranger = peers.server.connection().clone();
    let cases: [(&[&str], RequestErrorKind, u64); 4] = [
        (&["a", "__STREAM_ERROR__:找不到文件"], RequestErrorKind::Failed, 1),
        (&["__STREAM_ERROR__"], RequestErrorKind::Failed, 0),
        (&["a"], RequestErrorKind::Timeout, 1),
        (&[], RequestErrorKind::Timeout, 0),
    ];
    for (sent, kind, items) in cases {
        let subject = unique_subject("bad");
        responder(&stranger, &subject, sent).await;
        for dialect in [Dialect::Text, Dialect::AutoText] {
            let request = peers.pool.request_stream(&subject, "").dialect(dialect);
            let mut responses = within(LIMIT, request.idle_timeout(Duration::from_millis(300)))
                .await
                .expect("sent");
            let error = loop {
                match within(LIMIT, responses.try_next()).await {
                    Ok(item) => assert!(item.is_some(), "no success"),
                    Err(error) => break error,
                }
            };
            assert_eq!((error.kind(), error.items()), (kind, items), "{sent:?} {dialect}");
            if sent.len() == 2 {
                assert_eq!(error.status().expect("its words").message, "找不到文件");
            }
            if kind == RequestErrorKind::Timeout {
                let clock = if items == 0 { Clock::FirstItem } else { Clock::Idle };
                assert_eq!(error.clock(), Some(clock));
            }
        }
    }
    let nobody = peers
        .pool
        .request_stream(unique_subject("nobody"), "")
        .dialect(Dialect::Text);
    let mut responses = within(LIMIT, nobody).await.expect("sent");
    let error = within(LIMIT, responses.try_next()).await.expect_err("nobody");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_form_fails_the_call() {
    let peers = Peers::connect().await;
    let (kinds, mut seen) = mpsc::unbounded_channel();
    let handler = move |_: Request, mut out: ResponseSender| {
        let kinds = kinds.clone();
        async move {
            out.send("good").await?;
            let error = out.send("").await.expect_err("it cannot be sent");
            kinds.send(error.kind()).expect("the test waits");
            Ok(())
        }
    };
    for (foreign, plain, _) in PLAIN {
        let subject = unique_subject("empty");
        within(
            LIMIT,
            peers.server.on(&subject, handler.clone()).foreign_dialect(foreign),
        )
        .await
        .expect("served");
        let mut responses = within(LIMIT, peers.pool.request_stream(&subject, "").dialect(plain))
            .await
            .expect("sent");
        assert_eq!(
            within(LIMIT, responses.try_next()).await.expect("an item").as_deref(),
            Some(&b"good"[..])
        );
        let error = within(LIMIT, responses.try_next()).await.expect_err("the call fails");
        assert_eq!(error.kind(), RequestErrorKind::Failed);
        assert_eq!(within(LIMIT, seen.recv()).await, Some(SendErrorKind::NotRepresentable));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_has_the_form_of_the_dialect() {
    let peers = Peers::connect().await;
    let nats = peers.pool.connection().expect("one connection").nats();
    let refused = |foreign| {
        peers
            .server
            .on(unique_subject("busy"), count)
            .foreign_dialect(foreign)
            .max_concurrent(0)
    };
    let text = within(LIMIT, refused(ForeignDialect::Text)).await.expect("served");
    let mut answers = ask(nats, text.subject(), None).await;
    assert!(payload(&mut answers).await.starts_with("__STREAM_ERROR__:"));
    for foreign in [ForeignDialect::Sentinel, ForeignDialect::Refuse] {
        let endpoint = within(LIMIT, refused(foreign)).await.expect("served");
        let mut answers = ask(nats, endpoint.subject(), None).await;
        let message = next(&mut answers).await;
        let code = if foreign == ForeignDialect::Refuse { "12" } else { "8" };
        let headers = message.headers.expect("the failure");
        assert_eq!(headers.get("Nats-Service-Error-Code").expect("a code").as_str(), code);
        assert!(message.payload.is_empty());
        assert_eq!(endpoint.stats().refused, 1);
    }
}

/// A handler that sends an item every few milliseconds, and then says why it was stopped.
fn ticker(
    reasons: mpsc::UnboundedSender<CloseReason>,
) -> impl Fn(Request, ResponseSender) -> std::pin::Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>
+ Clone
+ Send
+ Sync
+ 'static {
    move |_, mut out| {
        let reasons = reasons.clone();
        Box::pin(async move {
            let closed = out.closed();
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while out.send("tick").await.is_ok() {
                tick.tick().await;
            }
            reasons.send(closed.await).expect("the test waits");
            Ok(())
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_that_it_leaves_stops_its_handlers_only() {
    let peers = Peers::connect().await;
    let (reasons, mut stopped) = mpsc::unbounded_channel();
    let subject = unique_subject("tick");
    within(LIMIT, peers.server.on(&subject, ticker(reasons)))
        .await
        .expect("served");
    let nats = peers.pool.connection().expect("one connection").nats();
    let (leaver, stayer) = (unique_name("client"), unique_name("client"));
    let named = |name: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("Connect-ID", name);
        Some(headers)
    };
    let mut first = ask(nats, &subject, named(&leaver)).await;
    let mut second = ask(nats, &subject, named(&stayer)).await;
    assert_eq!(payload(&mut first).await, "tick");
    assert_eq!(payload(&mut second).await, "tick");
    nats.publish("client.offline", leaver.into()).await.expect("sent");
    assert_eq!(within(LIMIT, stopped.recv()).await, Some(CloseReason::Cancelled));
    for _ in 0..20 {
        assert_eq!(payload(&mut second).await, "tick");
    }
    assert!(stopped.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_with_a_name_stops_the_handler_at_once() {
    let peers = Peers::connect().await;
    let (reasons, mut stopped) = mpsc::unbounded_channel();
    let subject = unique_subject("tick");
    within(LIMIT, peers.server.on(&subject, ticker(reasons)))
        .await
        .expect("served");
    let name = unique_name("client");
    let request = || {
        peers
            .pool
            .request_stream(&subject, "")
            .dialect(Dialect::Text)
            .connect_id(&name)
    };
    let mut first = within(LIMIT, request()).await.expect("sent");
    let mut second = within(LIMIT, request()).await.expect("sent");
    for responses in [&mut first, &mut second] {
        assert!(within(LIMIT, responses.try_next()).await.expect("an item").is_some());
    }
    drop(first);
    assert!(within(LIMIT, second.try_next()).await.expect("an item").is_some());
    assert!(stopped.try_recv().is_err(), "another call of this client is running");
    drop(second);
    assert_eq!(within(LIMIT, stopped.recv()).await, Some(CloseReason::Cancelled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_whose_caller_is_gone_is_stopped_after_five_seconds() {
    let peers = Peers::connect().await;
    let (reasons, mut stopped) = mpsc::unbounded_channel();
    let subject = unique_subject("tick");
    within(LIMIT, peers.server.on(&subject, ticker(reasons)))
        .await
        .expect("served");
    // Without a name: only its subscription says that it listens.
    let request = peers.pool.request_stream(&subject, "").dialect(Dialect::Text);
    let mut responses = within(LIMIT, request).await.expect("sent");
    assert!(within(LIMIT, responses.try_next()).await.expect("an item").is_some());
    drop(responses);
    assert_eq!(within(LIMIT, stopped.recv()).await, Some(CloseReason::Gone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_too_slow_has_lost_its_answer() {
    let peers = Peers::connect().await;
    let subject = unique_subject("count");
    within(LIMIT, peers.server.on(&subject, count)).await.expect("served");
    let request = peers
        .pool
        .request_stream(&subject, "")
        .dialect(Dialect::Text)
        .max_buffered(10_000);
    let mut responses = within(LIMIT, request).await.expect("sent");
    // Nothing is read until the end is known: the answer is far larger than what may wait.
    let mut lost = None;
    while lost.is_none() {
        // sleep: so that the answer runs ahead of its reader.
        tokio::time::sleep(Duration::from_millis(50)).await;
        lost = within(LIMIT, responses.try_next()).await.err();
    }
    let error = lost.expect("lost");
    assert_eq!(error.kind(), RequestErrorKind::Lost);
    assert_eq!(responses.received(), error.items());
    let termination = responses.termination();
    assert!(
        matches!(termination, Some(Termination::Lost { items, .. }) if *items == error.items()),
        "{termination:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_control_is_answered_where_that_is_allowed() {
    let peers = Peers::connect().await;
    let subject = unique_subject("count");
    within(LIMIT, peers.server.on(&subject, count).allow_uncontrolled(true))
        .await
        .expect("served");
    let request = || peers.pool.request_stream(&subject, "").without_control();
    let mut responses = within(LIMIT, request().deadline(LIMIT)).await.expect("sent");
    for number in 0..1000 {
        let item = within(LIMIT, responses.try_next()).await.expect("an item");
        assert_eq!(item.expect("no end yet"), number.to_string());
    }
    assert_eq!(within(LIMIT, responses.try_next()).await.expect("complete"), None);
    assert_eq!(responses.guarantee(), Guarantee::Detected);

    let error = within(LIMIT, request()).await.expect_err("no deadline");
    assert_eq!(error.kind(), RequestErrorKind::InvalidRequest);
    let strict = unique_subject("strict");
    within(LIMIT, peers.server.on(&strict, count)).await.expect("served");
    let request = peers.pool.request_stream(&strict, "").without_control().deadline(LIMIT);
    let mut responses = within(LIMIT, request).await.expect("sent");
    let error = within(LIMIT, responses.try_next()).await.expect_err("refused");
    assert_eq!(error.kind(), RequestErrorKind::Refused);
    assert_eq!(error.status().map(|status| status.code), Some(Code::PermissionDenied));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_is_answered_without_the_handler() {
    let peers = Peers::connect().await;
    let subject = unique_subject("never");
    let never = |_: Request, _: ResponseSender| async { Err(HandlerError::new(Code::Internal, "it ran")) };
    within(LIMIT, peers.server.on(&subject, never)).await.expect("served");
    let responses = within(LIMIT, peers.pool.request_stream(&subject, "").probe())
        .await
        .expect("sent");
    let items = within(LIMIT, responses.collect_all(1000)).await.expect("complete");
    assert_eq!(items, ["0", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_not_lost_in_a_flood_of_items() {
    let peers = Peers::connect().await;
    let (flood, full) = (unique_subject("flood"), unique_subject("full"));
    // Nothing but the connection holds up what is sent in a plain dialect, so it takes no message most of the time.
    let endless = |_: Request, mut out: ResponseSender| async move {
        while out.send([7; 100]).await.is_ok() {}
        Ok(())
    };
    within(LIMIT, peers.server.on(&flood, endless)).await.expect("served");
    within(LIMIT, peers.server.on(&full, count).max_concurrent(0))
        .await
        .expect("served");
    let stranger = integration::connection(testkit::shared_url()).await;
    let mut floods = Vec::new();
    for _ in 0..16 {
        let mut answers = ask(stranger.nats(), &flood, None).await;
        payload(&mut answers).await;
        floods.push(tokio::spawn(async move { while answers.next().await.is_some() {} }));
    }
    for dialect in [Dialect::Native, Dialect::Text] {
        let refused = (0..1000).map(|_| async {
            let request = peers.pool.request_stream(&full, "").dialect(dialect);
            let mut responses = within(LIMIT, request).await.expect("sent");
            within(LIMIT, responses.try_next()).await.expect_err("refused").kind()
        });
        let expected = if dialect == Dialect::Native {
            RequestErrorKind::Refused
        } else {
            RequestErrorKind::Failed
        };
        let mut kinds = futures_util::future::join_all(refused).await;
        kinds.retain(|kind| *kind != expected);
        assert_eq!(kinds, [], "{dialect}");
    }
    for flood in floods {
        flood.abort();
    }
}
