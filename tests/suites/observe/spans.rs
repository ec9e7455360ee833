//! A span for each call and each handled message, and none for items and events.

use integration::consume::Desk;
use integration::{LIMIT, Peers, connection};
use natstream::eventbus::topology::ConsumerSpec;
use natstream::eventbus::{Consumer, HandlerError as ConsumeFailure};
use natstream::{HandlerError, Request, ResponseSender};
use testkit::{shared_url, unique_subject, within};

use crate::seen::{Seen, Spans};

async fn answer(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    tracing::info!("the handler runs");
    for item in ["one", "two", "three"] {
        out.send(item).await?;
    }
    match &request.payload()[..] {
        b"fail" => Err(HandlerError::not_found("no such thing")),
        b"wait" => {
            out.closed().await;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The spans of both sides of one call, the caller's first. `read`: how many items the caller waits for.
async fn call(payload: &'static str, read: usize) -> [Seen; 2] {
    let spans = Spans::watch();
    let (peers, subject) = (Peers::connect().await, unique_subject("observe"));
    within(LIMIT, peers.server.on(&subject, answer)).await.expect("served");
    let request = peers.pool.request_stream(&subject, payload);
    let mut responses = within(LIMIT, request).await.expect("sent");
    for _ in 0..read {
        // The last one may be the verdict.
        let _ = within(LIMIT, responses.next()).await;
    }
    drop(responses);
    let [caller] = <[Seen; 1]>::try_from(spans.named("stream.request", 1).await).expect("one call");
    let [handler] = <[Seen; 1]>::try_from(spans.named("stream.handle", 1).await).expect("one handler");
    assert_eq!(spans.all().len(), 2, "none for items: {:?}", spans.all());
    for seen in [&caller, &handler] {
        assert_eq!(seen.field("rpc.method"), subject);
        assert_eq!(seen.field("natstream.dialect"), "native");
    }
    [caller, handler]
}

#[tokio::test]
async fn a_call_that_is_complete_says_so_on_both_sides() {
    let [caller, handler] = call("", 4).await;
    for seen in [&caller, &handler] {
        assert_eq!(seen.field("natstream.verdict"), "ended");
        assert_eq!(seen.field("rpc.response.status_code"), "OK");
        assert_eq!(
            (seen.field("natstream.items"), seen.field("natstream.bytes")),
            ("3", "11")
        );
        assert_eq!((seen.field("error.type"), seen.field("otel.status_code")), ("", ""));
    }
    assert_eq!(caller.field("natstream.attempts"), "1");
    assert_eq!(
        (caller.field("otel.kind"), handler.field("otel.kind")),
        ("client", "server")
    );
    assert_eq!(handler.said, ["the handler runs"]);
    assert!(caller.said.is_empty(), "{caller:?}");
}

#[tokio::test]
async fn a_failure_is_told_with_its_code() {
    let [caller, handler] = call("fail", 4).await;
    for seen in [&caller, &handler] {
        assert_eq!(seen.field("natstream.verdict"), "failed");
        assert_eq!(seen.field("rpc.response.status_code"), "NOT_FOUND");
        assert_eq!(
            (seen.field("error.type"), seen.field("otel.status_code")),
            ("failed", "ERROR")
        );
    }
}

#[tokio::test]
async fn a_cancelled_call_is_no_error() {
    let [caller, handler] = call("wait", 2).await;
    for seen in [&caller, &handler] {
        assert_eq!(seen.field("natstream.verdict"), "cancelled");
        assert_eq!((seen.field("error.type"), seen.field("otel.status_code")), ("", ""));
    }
    assert_eq!(caller.field("natstream.items"), "2");
}

#[tokio::test]
async fn a_call_that_nobody_takes_has_a_verdict_too() {
    let spans = Spans::watch();
    let (peers, subject) = (Peers::connect().await, unique_subject("observe"));
    let mut responses = within(LIMIT, peers.pool.request_stream(&subject, ""))
        .await
        .expect("sent");
    assert!(within(LIMIT, responses.try_next()).await.is_err());
    assert!(
        within(LIMIT, peers.pool.request_stream("not a subject", ""))
            .await
            .is_err()
    );
    assert!(within(LIMIT, peers.pool.request(&subject, "")).await.is_err());
    let verdicts: Vec<_> = spans
        .all()
        .into_iter()
        .map(|seen| seen.field("error.type").to_owned())
        .collect();
    assert_eq!(verdicts, ["no_responders", "invalid_request", "no_responders"]);
}

#[tokio::test]
async fn requests_and_messages_have_spans() {
    let spans = Spans::watch();
    let (peers, subject) = (Peers::connect().await, unique_subject("observe"));
    let respond = peers.server.on_message(&subject, |message| async move {
        tracing::info!("a message");
        Ok(message.respond("four").await?)
    });
    within(LIMIT, respond).await.expect("served");
    within(LIMIT, peers.pool.request(&subject, "x")).await.expect("a reply");
    let caller = &spans.named("message.request", 1).await[0];
    let handler = &spans.named("message.handle", 1).await[0];
    assert_eq!(
        (caller.field("natstream.verdict"), caller.field("natstream.bytes")),
        ("ended", "4")
    );
    assert_eq!((handler.field("natstream.verdict"), handler.said.len()), ("ended", 1));
    assert_eq!(handler.field("messaging.destination.name"), subject);
}

#[tokio::test]
async fn handled_events_have_spans_and_published_ones_have_none() {
    let desk = Desk::new(connection(shared_url()).await).await;
    let spans = Spans::watch();
    for number in 0..3 {
        desk.publish("a", number).await;
    }
    within(LIMIT, desk.bus.flush(LIMIT)).await.expect("acked");
    assert!(spans.all().is_empty(), "{:?}", spans.all());
    let consumer = Consumer::builder(desk.connection.clone(), ConsumerSpec::new(&desk.stream, "c"));
    let consumer = within(
        LIMIT,
        consumer.limit(3).backoff([std::time::Duration::from_millis(1)]).open(),
    )
    .await;
    let consumer = consumer.expect("open");
    let handled = consumer.for_each(|message| async move {
        tracing::info!("an event");
        match (message.sequence(), message.attempt()) {
            (2, 1) => Err(ConsumeFailure::retry("not yet")),
            _ => Ok(()),
        }
    });
    within(LIMIT, handled).await.expect("handled");
    let all = spans.named("bus.handle", 4).await;
    let verdicts: Vec<_> = all.iter().map(|seen| seen.field("natstream.verdict")).collect();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == "ended").count(), 3);
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == "failed").count(), 1);
    for seen in &all {
        assert_eq!(seen.field("natstream.stream"), desk.stream);
        assert_eq!(seen.said.first().map(String::as_str), Some("an event"));
    }
}
