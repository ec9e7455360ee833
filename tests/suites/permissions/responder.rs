//! Responders that lack a permission.

use std::time::Instant;

use futures_util::{StreamExt as _, stream};
use integration::LIMIT;
use integration::numbers::{complete, failure, item};
use natstream::{
    Clock, CloseReason, HandlerError, LostCause, RequestErrorKind, ResponseSender, SendErrorKind, ServeErrorKind,
    Server,
};
use testkit::{settles, within};
use tokio::sync::mpsc;

use crate::*;

/// Three heartbeats, or the 5 s after which nobody has answered, on a slow machine.
const BOUNDED: Duration = Duration::from_secs(12);

/// What a responder needs beside the permission to answer.
const SERVES: &str = "publish: [\"nothing\"], subscribe: [\"svc.>\", \"_INBOX.>\", \"client.offline\"]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_serve_knows_at_once() {
    let nats = start(users(&[
        (
            "other",
            "subscribe: [\"_INBOX.>\", \"svc.other\", \"svc.grouped other\"]",
        ),
        ("deaf", "subscribe: [\"svc.>\"]"),
    ]))
    .await;
    let other = Server::new(connect(&nats, "other").await);
    let deaf = connect(&nats, "deaf").await;
    // Often, since nats-server's refusal and its confirmation arrive by two ways.
    let attempts = stream::iter(0..200).for_each_concurrent(8, |_| async {
        let began = Instant::now();
        for builder in [
            other.on("svc.count", count),
            other.on("svc.count", count).no_queue_group(),
            other.on("svc.grouped", count),
            Server::new(deaf.clone()).on("svc.count", count),
        ] {
            let error = within(LIMIT, builder).await.expect_err("not permitted");
            assert_eq!(error.kind(), ServeErrorKind::NotPermitted, "{error}");
        }
        assert!(began.elapsed() < 4 * AT_ONCE, "after {:?}", began.elapsed());
    });
    attempts.await;
    // What is permitted is served by the same server; nobody told it of `client.offline`, which it may not hear.
    let endpoint = other.on("svc.grouped", count).queue_group("other");
    within(LIMIT, endpoint).await.expect("served");
    within(LIMIT, other.on("svc.other", count)).await.expect("served");
    let pool = pool(&nats, "all").await;
    for subject in ["svc.other", "svc.grouped"] {
        for dialect in [Dialect::Native, Dialect::Text, Dialect::AutoText] {
            complete(pool.request_stream(subject, LONG).dialect(dialect), LONG_ITEMS).await;
        }
    }
}

/// A responder that may answer as often as `allow` says, and what its handler heard.
struct Answering {
    nats: NatsServer,
    server: Server,
    endpoint: Endpoint,
    heard: mpsc::UnboundedReceiver<(CloseReason, SendErrorKind, Option<CloseReason>)>,
}

impl Answering {
    async fn start(allow: &str, is_mapped: bool) -> Self {
        let responder = ("responder", &*format!("{SERVES} {allow}"));
        let config = if is_mapped {
            accounts(&[responder], &[])
        } else {
            users(&[responder, ("caller", "publish: \">\"")])
        };
        let nats = start(config).await;
        let server = Server::new(connect(&nats, "responder").await);
        let (report, heard) = mpsc::unbounded_channel();
        let ticks = move |_request, mut out: ResponseSender| {
            let report = report.clone();
            async move {
                let closed = out.closed();
                let mut tick = tokio::time::interval(Duration::from_millis(20));
                let error = loop {
                    tick.tick().await;
                    if let Err(error) = out.send(item(out.sent() as u32)).await {
                        break error;
                    }
                };
                let _ = report.send((closed.await, error.kind(), error.reason()));
                Ok::<_, HandlerError>(())
            }
        };
        let endpoint = within(LIMIT, server.on("svc.ticks", ticks)).await.expect("served");
        within(LIMIT, server.on("svc.count", count)).await.expect("served");
        Self {
            nats,
            server,
            endpoint,
            heard,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_answer_has_its_handler_stopped_and_its_caller_knows_in_time() {
    let mut cases = Vec::new();
    for is_mapped in [false, true] {
        for (allow, items) in [
            ("", 0),
            (", allow_responses: true", 1),
            (", allow_responses: {max: 3}", 3),
            (", allow_responses: {max: -1, expires: \"1s\"}", 100),
        ] {
            cases.push(is_not_answered(allow, items, is_mapped));
        }
    }
    futures_util::future::join_all(cases).await;
}

/// A responder that may not send more than `items` messages.
async fn is_not_answered(allow: &str, items: u64, is_mapped: bool) {
    let mut stage = Answering::start(allow, is_mapped).await;
    let pool = pool(&stage.nats, "caller").await;
    for (dialect, denied) in [Dialect::Native, Dialect::Text, Dialect::AutoText].into_iter().zip(1..) {
        let began = Instant::now();
        let request = pool
            .request_stream("svc.ticks", "")
            .heartbeat(HEARTBEAT)
            .dialect(dialect);
        let error = match dialect {
            Dialect::Native => failure(request).await,
            _ => failure(request.first_item_timeout(3 * HEARTBEAT).idle_timeout(3 * HEARTBEAT)).await,
        };
        let case = format!("`{allow}`, {is_mapped}, {dialect}: {error}");
        assert!(began.elapsed() < BOUNDED, "{case} after {:?}", began.elapsed());
        // Inside an account each STATE of the caller lets the responder answer once more.
        let is_exact = is_mapped || dialect == Dialect::Text;
        assert!(error.items() <= items || !is_exact, "{case}");
        match (dialect, items) {
            // The handler has run.
            (Dialect::Native, 0) => assert_eq!(error.kind(), RequestErrorKind::Unanswered, "{case}"),
            (Dialect::Text, _) | (_, 0) => {
                let clock = if items == 0 { Clock::FirstItem } else { Clock::Idle };
                assert_eq!(
                    (error.kind(), error.clock()),
                    (RequestErrorKind::Timeout, Some(clock)),
                    "{case}"
                );
            }
            _ => {
                // Where it may answer once more, it says that it has given the stream up.
                let causes = [LostCause::Forgotten, LostCause::Silent, LostCause::SingleResponse];
                let is_known = error.lost_cause().is_some_and(|cause| causes.contains(&cause));
                assert!(error.kind() == RequestErrorKind::Lost && is_known, "{case}");
            }
        }
        let heard = within(LIMIT, stage.heard.recv())
            .await
            .expect("the handler was stopped");
        let reason = CloseReason::NotPermitted;
        assert_eq!(heard, (reason, SendErrorKind::Closed, Some(reason)), "{case}");
        let stats = stage.endpoint.stats();
        assert_eq!((stats.denied, stats.failed), (denied, denied), "{case}");
    }
}

/// The handler has gone by then; whoever looks at the figures sees what is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_answers_of_one_message_are_counted() {
    for is_mapped in [false, true] {
        let stage = Answering::start("", is_mapped).await;
        let pool = pool(&stage.nats, "caller").await;
        let one = stage.server.on_items("svc.one", |_| async { Ok(["one"]) });
        let endpoint = within(LIMIT, one).await.expect("served");
        for denied in 1..=2 {
            let request = pool.request_stream("svc.one", "").heartbeat(HEARTBEAT);
            let call = within(LIMIT, request).await.expect("sent");
            let counted = || std::future::ready(endpoint.stats().denied);
            settles(LIMIT, counted, denied).await;
            drop(call);
        }
        assert_eq!(endpoint.stats().finished, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_answer_for_long_enough_loses_nothing() {
    for is_mapped in [false, true] {
        let stage = Answering::start(", allow_responses: {max: -1, expires: \"24h\"}", is_mapped).await;
        let pool = pool(&stage.nats, "caller").await;
        for dialect in [Dialect::Native, Dialect::Text, Dialect::AutoText] {
            complete(pool.request_stream("svc.count", LONG).dialect(dialect), LONG_ITEMS).await;
        }
        assert_eq!(stage.endpoint.stats().denied, 0);
        drop(stage.server);
    }
}
