//! Exports and imports of every kind, and what callers see of those that do not suit streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use integration::LIMIT;
use integration::numbers::{complete, count, failure, item, sent};
use natstream::{
    Clock, Dialect, HandlerError, LostCause, Request, RequestError, RequestErrorKind, ResponseSender, Server,
};
use testkit::within;

use crate::{Accounts, HEARTBEAT, STREAM, accounts, connect};

/// More than one message.
const LONG: &str = "2000";

/// One item in a message of its own, and the end some time later.
async fn slow_end(_: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    out.send(item(0)).await?;
    out.closed().await;
    Ok(())
}

fn assert_names_the_export(error: &RequestError) {
    let cause = (error.kind(), error.lost_cause());
    assert_eq!(
        cause,
        (RequestErrorKind::Lost, Some(LostCause::SingleResponse)),
        "{error}"
    );
    assert!(error.hint().expect("a hint").contains("response_type: stream"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_for_one_response_lets_one_message_through_and_says_what_is_wrong_with_more() {
    let stage = Accounts::start("").await;
    within(LIMIT, stage.server.on("svc.count", count))
        .await
        .expect("served");
    within(LIMIT, stage.server.on("svc.slow", slow_end))
        .await
        .expect("served");
    let ask = |subject: &str, payload| stage.pool.request_stream(subject, payload).heartbeat(HEARTBEAT);
    for items in [0, 1, 50] {
        complete(ask("svc.count", items.to_string()), items).await;
    }
    for request in [
        ask("svc.count", LONG.to_owned()),
        ask("svc.slow", String::new()),
        ask("svc.count", LONG.to_owned()).dialect(Dialect::AutoText),
    ] {
        let began = Instant::now();
        let error = failure(request).await;
        assert_names_the_export(&error);
        assert!(error.items() > 0, "the first message was read");
        assert!(began.elapsed() < 10 * HEARTBEAT, "after {:?}", began.elapsed());
    }
    // A probe finds it out: its three items come in messages of their own.
    let mut probe = sent(ask("svc.count", String::new()).probe()).await;
    let first = within(LIMIT, probe.try_next()).await.expect("an item");
    assert_eq!(first.as_deref(), Some(&b"0"[..]));
    assert_names_the_export(&within(LIMIT, probe.try_next()).await.expect_err("one message only"));
    stage.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_for_one_response_is_named_in_time_with_the_default_heartbeat() {
    let stage = Accounts::start("").await;
    within(LIMIT, stage.server.on("svc.count", count))
        .await
        .expect("served");
    let began = Instant::now();
    assert_names_the_export(&failure(stage.pool.request_stream("svc.count", LONG)).await);
    assert!(began.elapsed() < Duration::from_secs(20), "after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_plain_dialect_an_export_for_one_response_is_silence_after_the_first_item() {
    let stage = Accounts::start("").await;
    within(LIMIT, stage.server.on("svc.count", count))
        .await
        .expect("served");
    // Nothing tells the caller what is missing: not even the end comes.
    for (items, dialect) in [("1", Dialect::Text), (LONG, Dialect::Text), (LONG, Dialect::Sentinel)] {
        let request = stage.pool.request_stream("svc.count", items).dialect(dialect);
        let error = failure(request.idle_timeout(HEARTBEAT)).await;
        let seen = (error.kind(), error.clock(), error.items());
        assert_eq!(
            seen,
            (RequestErrorKind::Timeout, Some(Clock::Idle), 1),
            "{items} {dialect}"
        );
    }
    stage.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_export_is_as_good_as_a_stream() {
    let stage = Accounts::start(", response_type: chunked").await;
    within(LIMIT, stage.server.on("svc.count", count))
        .await
        .expect("served");
    for dialect in [Dialect::Native, Dialect::Text, Dialect::AutoText] {
        complete(stage.pool.request_stream("svc.count", "20000").dialect(dialect), 20_000).await;
    }
    stage.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_may_rename_and_share() {
    let imports = "{service: {account: SVC, subject: \"svc.count\"}, to: \"their.numbers\"},
                   {service: {account: SVC, subject: \"svc.count\"}, to: \"their.numbers.again\", share: true},
                   {service: {account: SVC, subject: \"svc.by.*\"}, to: \"from.*.there\"}";
    let stage = Accounts::start_with(accounts(STREAM, imports)).await;
    for subject in ["svc.count", "svc.by.*"] {
        within(LIMIT, stage.server.on(subject, count)).await.expect("served");
    }
    for subject in ["their.numbers", "their.numbers.again", "from.name.there"] {
        for items in [1, 20_000] {
            complete(stage.pool.request_stream(subject, items.to_string()), items).await;
        }
        let text = stage.pool.request_stream(subject, "200").dialect(Dialect::Text);
        complete(text, 200).await;
    }
    // The names of the other account mean nothing here.
    let error = failure(stage.pool.request_stream("svc.count", "1")).await;
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
    stage.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_threshold_below_a_second_loses_streams_that_pause() {
    let stage = Accounts::start(", response_type: stream, response_threshold: \"500ms\"").await;
    within(LIMIT, stage.server.on("svc.count", count))
        .await
        .expect("served");
    let pauses = |_request, mut out: ResponseSender| async move {
        for number in 0..4 {
            out.send(item(number)).await?;
            // sleep: longer than the threshold, and than the second after which a beat would have kept the mapping
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        Ok(())
    };
    within(LIMIT, stage.server.on("svc.pauses", pauses))
        .await
        .expect("served");
    complete(stage.pool.request_stream("svc.count", "20000"), 20_000).await;
    // A beat a second comes too late. What the caller gets is what it gets for an export of one response, if the mapping
    // ends before the second message, and silence otherwise.
    let error = failure(stage.pool.request_stream("svc.pauses", "").heartbeat(HEARTBEAT)).await;
    assert_eq!(error.kind(), RequestErrorKind::Lost);
    let causes = [LostCause::SingleResponse, LostCause::Silent].map(Some);
    assert!(causes.contains(&error.lost_cause()), "{error}");
    stage.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_responders_without_a_group_one_is_read() {
    let stage = Accounts::start(STREAM).await;
    let other = Server::new(connect(stage.nats.url(), "svc").await);
    let begun = Arc::new(AtomicU64::new(0));
    for server in [&stage.server, &other] {
        let begun = begun.clone();
        let handler = move |request, out| {
            begun.fetch_add(1, Ordering::Relaxed);
            count(request, out)
        };
        let endpoint = server.on("svc.both", handler).no_queue_group();
        within(LIMIT, endpoint).await.expect("served");
    }
    for items in [1, 20_000].repeat(20) {
        let request = stage.pool.request_stream("svc.both", items.to_string());
        complete(request.heartbeat(HEARTBEAT), items).await;
    }
    assert_eq!(begun.load(Ordering::Relaxed), 80);
    // Both responders have the same subject to answer to; what the caller does not want it ends as well.
    stage.settled().await;
}
