//! Callers that lack a permission.

use std::time::Instant;

use futures_util::StreamExt as _;
use integration::LIMIT;
use integration::numbers::{complete, failure, item, outcome, rest, sent};
use natstream::{Connection, Denied, Dialect, Guarantee, Pool, RequestErrorKind, ResponseSender, RetryPolicy, Server};
use testkit::{alive_tasks, settles, within};

use crate::*;

/// May ask, and nothing else.
const ASKS: &str = "publish: [\"svc.>\"], subscribe: [\"_INBOX.>\"]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_ask_knows_at_once_and_other_calls_go_on() {
    let nats = start(users(&[(
        "narrow",
        "publish: [\"svc.count\", \"_INBOX.>\"], subscribe: [\"_INBOX.>\"]",
    )]))
    .await;
    let (server, endpoint) = serve(connect(&nats, "all").await).await;
    within(LIMIT, server.on("svc.other", count)).await.expect("served");
    let pool = pool(&nats, "narrow").await;
    let mut other = sent(pool.request_stream("svc.count", "100000")).await;
    within(LIMIT, other.try_next()).await.expect("an item");
    for dialect in DIALECTS {
        let began = Instant::now();
        let request = pool.request_stream("svc.other", "1").dialect(dialect);
        let error = failure(request.retry(RetryPolicy::exponential(3))).await;
        assert_denied(&error, Denied::Request, began);
    }
    assert_eq!(pool.stats().attempts, 5, "it was not asked again");
    assert_eq!(rest(&mut other).await.expect("complete"), 100_000);
    complete(pool.request_stream("svc.count", "1"), 1).await;
    assert_eq!(endpoint.stats().finished, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_ask_an_imported_service_knows_at_once() {
    let narrow = (
        "narrow",
        "publish: [\"svc.count\", \"_R_.>\"], subscribe: [\"_INBOX.>\"]",
    );
    let nats = start(accounts(&[], &[narrow])).await;
    let (server, _) = serve(connect(&nats, "all").await).await;
    within(LIMIT, server.on("svc.other", count)).await.expect("served");
    let pool = pool(&nats, "narrow").await;
    for dialect in DIALECTS {
        let began = Instant::now();
        let error = failure(pool.request_stream("svc.other", "1").dialect(dialect)).await;
        assert_denied(&error, Denied::Request, began);
    }
    complete(pool.request_stream("svc.count", LONG), LONG_ITEMS).await;
    settles(LIMIT, || nats.mappings("SVC"), 0).await;
    settles(LIMIT, || nats.mappings("APP"), 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_listen_knows_at_once_and_leaves_nothing() {
    let nats = start(users(&[("deaf", "publish: \">\", subscribe: [\"_INBOX_deaf.>\"]")])).await;
    let _served = serve(connect(&nats, "all").await).await;
    let connection = connect(&nats, "deaf").await;
    let pool = Pool::new(connection.clone());
    let ask = async |dialect| {
        let began = Instant::now();
        let error = failure(pool.request_stream("svc.count", "1").dialect(dialect)).await;
        assert_denied(&error, Denied::Inbox, began);
    };
    for dialect in DIALECTS {
        ask(dialect).await;
    }
    let tasks = alive_tasks();
    for dialect in DIALECTS.repeat(20) {
        ask(dialect).await;
    }
    settles(LIMIT, || std::future::ready(alive_tasks() <= tasks), true).await;
    assert_eq!(integration::number(&pool, "routes: "), 0);

    let own = config(&nats, "deaf").inbox_prefix("_INBOX_deaf");
    let own = Pool::new(within(LIMIT, Connection::connect(own)).await.expect("connected"));
    for dialect in [Dialect::Native, Dialect::Text, Dialect::AutoText] {
        complete(own.request_stream("svc.count", LONG).dialect(dialect), LONG_ITEMS).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_of_ones_own_keep_answers_from_others() {
    let nats = start(users(&[
        ("spy", "publish: \"nothing\", subscribe: [\"_INBOX.>\"]"),
        (
            "caller",
            "publish: [\"svc.>\", \"CONTROL.>\"], subscribe: [\"ANSWERS.>\"]",
        ),
        (
            "responder",
            "publish: [\"ANSWERS.>\"], subscribe: [\"svc.>\", \"CONTROL.>\"]",
        ),
    ]))
    .await;
    let spy = connect(&nats, "spy").await;
    let mut seen = within(LIMIT, spy.nats().subscribe("_INBOX.>"))
        .await
        .expect("subscribed");
    within(LIMIT, spy.fence(LIMIT)).await.expect("subscribed");
    let connect = async |user: &str, prefix: &str| {
        let config = config(&nats, user).inbox_prefix(prefix);
        within(LIMIT, Connection::connect(config)).await.expect("connected")
    };
    let (asks, answers) = (
        connect("caller", "ANSWERS").await,
        connect("responder", "CONTROL").await,
    );
    let pool = Pool::builder(asks.clone()).control_prefix("CONTROL.").build();
    let server = Server::builder(answers.clone()).reply_prefix("ANSWERS.").build();
    let endpoint = within(LIMIT, server.on("svc.count", count)).await.expect("served");
    for dialect in [Dialect::Native, Dialect::Text, Dialect::AutoText] {
        complete(pool.request_stream("svc.count", LONG).dialect(dialect), LONG_ITEMS).await;
    }
    assert_eq!(
        (endpoint.stats().refused_subjects, pool.stats().refused_subjects),
        (0, 0)
    );

    // Who was not told of the other's prefix does not use it.
    let strict = Server::new(answers);
    let endpoint = within(LIMIT, strict.on("svc.strict", count)).await.expect("served");
    let error = failure(pool.request_stream("svc.strict", "1")).await;
    assert_eq!(error.kind(), RequestErrorKind::Unanswered);
    assert_eq!((endpoint.stats().requests, endpoint.stats().refused_subjects), (1, 1));
    let strict = Pool::new(asks);
    // Without a subject for its credit it gets what fits into the first window, and nothing afterwards.
    let error = failure(strict.request_stream("svc.count", "100000").heartbeat(HEARTBEAT)).await;
    assert_eq!(error.kind(), RequestErrorKind::Lost, "{error}");
    assert!(strict.stats().refused_subjects > 0);

    within(LIMIT, spy.fence(LIMIT)).await.expect("connected");
    seen.unsubscribe().await.expect("unsubscribed");
    assert!(seen.next().await.is_none(), "somebody else's messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_control_gets_short_answers_and_knows_of_long_ones_at_once() {
    let nats = start(users(&[("asks", ASKS)])).await;
    let _served = serve(connect(&nats, "all").await).await;
    let pool = pool(&nats, "asks").await;
    without_control(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_control_across_accounts_gets_short_answers_and_knows_of_long_ones_at_once() {
    let nats = start(accounts(&[], &[("asks", ASKS)])).await;
    let _served = serve(connect(&nats, "all").await).await;
    let pool = pool(&nats, "asks").await;
    without_control(&pool).await;
    // Nobody tells the responder, nor ends the mappings of its control subject: those stay with nats-server.
    settles(LIMIT, || nats.mappings("SVC"), 0).await;
    let left = nats.mappings("APP").await;
    assert!(left >= 2, "{left} of two calls");
    let request = pool.request_stream("svc.count", LONG).without_control();
    complete(request.deadline(LIMIT), LONG_ITEMS).await;
    settles(LIMIT, || nats.mappings("SVC"), 0).await;
    assert_eq!(nats.mappings("APP").await, left);
}

async fn without_control(pool: &Pool) {
    for items in [0, 1, 50] {
        complete(pool.request_stream("svc.count", items.to_string()), items).await;
    }
    for dialect in [Dialect::Native, Dialect::AutoText] {
        let began = Instant::now();
        let error = failure(
            pool.request_stream("svc.count", LONG)
                .dialect(dialect)
                .heartbeat(HEARTBEAT),
        )
        .await;
        assert_denied(&error, Denied::Control, began);
    }
    // A plain dialect needs none.
    complete(
        pool.request_stream("svc.count", LONG).dialect(Dialect::Text),
        LONG_ITEMS,
    )
    .await;
    let request = pool.request_stream("svc.count", LONG).without_control().deadline(LIMIT);
    let mut responses = sent(request).await;
    assert_eq!(rest(&mut responses).await.expect("complete"), LONG_ITEMS);
    assert_eq!(responses.guarantee(), Guarantee::Detected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allow_responses_let_a_caller_control_as_often_as_they_say() {
    let allow = |responses: &str| format!("{ASKS}, allow_responses: {responses}");
    let (one, any) = (allow("true"), allow("{max: -1, expires: \"24h\"}"));
    for config in [
        users(&[("one", &one), ("any", &any)]),
        accounts(&[], &[("one", &one), ("any", &any)]),
    ] {
        let nats = start(config).await;
        let _served = serve(connect(&nats, "all").await).await;
        let any = pool(&nats, "any").await;
        complete(any.request_stream("svc.count", "100000"), 100_000).await;
        let one = pool(&nats, "one").await;
        complete(one.request_stream("svc.count", "1"), 1).await;
        let began = Instant::now();
        let end = outcome(one.request_stream("svc.count", "100000").heartbeat(HEARTBEAT)).await;
        // The second message to the control subject is one too many.
        assert_denied(&end.expect_err("no control"), Denied::Control, began);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_loses_the_permission_to_control_ends_after_its_items() {
    let nats = start(users(&[("asks", ASKS)])).await;
    let (server, _) = serve(connect(&nats, "all").await).await;
    let hold = |_request, mut out: ResponseSender| async move {
        out.send(item(0)).await?;
        out.closed().await;
        Ok(())
    };
    within(LIMIT, server.on("svc.hold", hold)).await.expect("served");
    let pool = pool(&nats, "asks").await;
    let mut responses = sent(pool.request_stream("svc.hold", "")).await;
    let began = Instant::now();
    assert!(within(LIMIT, responses.try_next()).await.expect("an item").is_some());
    let error = within(LIMIT, responses.try_next()).await.expect_err("no control");
    assert_denied(&error, Denied::Control, began);
    assert_eq!(error.items(), 1);
}
