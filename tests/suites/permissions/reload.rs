//! Permissions that change while everybody is connected: nats-server applies them to connections that are open, but gives no
//! subscription back that it has refused or ended.

use std::time::Instant;

use integration::numbers::{complete, failure, item, outcome, sent};
use integration::{LIMIT, number};
use natstream::{
    CloseReason, Denied, HandlerError, LostCause, RequestErrorKind, ResponseSender, ServeErrorKind, Server,
};
use testkit::{settles, settles_where, within};
use tokio::sync::mpsc;

use crate::*;

const EVERYTHING: &str = "publish: \">\"";
const DEAF: &str = "publish: \">\", subscribe: [\"nothing\"]";

/// The connection has not even been interrupted.
#[track_caller]
fn assert_untouched(connection: &Connection) {
    let state = *connection.state().borrow();
    assert!(state.is_connected() && state.epoch == 1, "{state:?}");
}

/// Works on the connection as it is, but for a refused subscription at once: that is tried again once a second.
async fn works(pool: &Pool) {
    let kind = async || {
        let end = outcome(pool.request_stream("svc.count", LONG)).await;
        end.err().map(|error| error.kind())
    };
    settles_where(LIMIT, kind, |kind| {
        assert!(matches!(kind, None | Some(RequestErrorKind::NotPermitted)), "{kind:?}");
        kind.is_none()
    })
    .await;
    for dialect in [Dialect::Native, Dialect::Text, Dialect::AutoText] {
        complete(pool.request_stream("svc.count", LONG).dialect(dialect), LONG_ITEMS).await;
    }
    assert_untouched(pool.connection().expect("one connection"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_caller_is_allowed_later_works_on_the_same_connection() {
    for (narrow, denied) in [
        ("publish: [\"_INBOX.>\"]", Denied::Request),
        (DEAF, Denied::Inbox),
        ("publish: [\"svc.>\"]", Denied::Control),
    ] {
        let mut nats = start(users(&[("user", narrow)])).await;
        let _served = serve(connect(&nats, "all").await).await;
        let pool = pool(&nats, "user").await;
        for _ in 0..2 {
            for dialect in [Dialect::Native, Dialect::AutoText] {
                let began = Instant::now();
                let error = failure(pool.request_stream("svc.count", LONG).dialect(dialect)).await;
                assert_denied(&error, denied, began);
            }
            within(LIMIT, nats.reload(users(&[("user", EVERYTHING)]))).await;
            works(&pool).await;
            // What is taken back is missed as it was before.
            within(LIMIT, nats.reload(users(&[("user", narrow)]))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_responder_is_allowed_later_works_on_the_same_connection() {
    for narrow in ["subscribe: [\"_INBOX.>\"]", "subscribe: [\"svc.>\"]"] {
        let mut nats = start(users(&[("user", narrow)])).await;
        let server = Server::new(connect(&nats, "user").await);
        for _ in 0..2 {
            let error = within(LIMIT, server.on("svc.count", count)).await;
            assert_eq!(error.expect_err("denied").kind(), ServeErrorKind::NotPermitted);
        }
        within(LIMIT, nats.reload(users(&[("user", EVERYTHING)]))).await;
        let serve = async || {
            within(LIMIT, server.on("svc.count", count))
                .await
                .map_err(|error| error.kind())
        };
        settles_where(LIMIT, serve, Result::is_ok).await.expect("served");
        works(&pool(&nats, "all").await).await;
        assert_untouched(server.connection());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_responder_may_answer_later_is_answered() {
    let mute = "publish: [\"nothing\"], subscribe: [\"svc.>\", \"_INBOX.>\"]";
    let mut nats = start(users(&[("user", mute)])).await;
    let (_server, endpoint) = serve(connect(&nats, "user").await).await;
    let pool = pool(&nats, "all").await;
    let error = failure(pool.request_stream("svc.count", LONG)).await;
    assert_eq!(
        (error.kind(), endpoint.stats().denied),
        (RequestErrorKind::Unanswered, 1)
    );
    within(LIMIT, nats.reload(users(&[("user", EVERYTHING)]))).await;
    works(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_inbox_is_taken_away_is_lost_in_time() {
    let mut nats = start(users(&[("user", EVERYTHING)])).await;
    let (server, _) = serve(connect(&nats, "all").await).await;
    let (report, mut closed) = mpsc::unbounded_channel();
    let hold = move |_request, mut out: ResponseSender| {
        let report = report.clone();
        async move {
            out.send(item(0)).await?;
            let _ = report.send(out.closed().await);
            Ok::<_, HandlerError>(())
        }
    };
    within(LIMIT, server.on("svc.hold", hold)).await.expect("served");
    let pool = pool(&nats, "user").await;
    let mut held = sent(pool.request_stream("svc.hold", "").heartbeat(HEARTBEAT)).await;
    assert!(within(LIMIT, held.try_next()).await.expect("an item").is_some());
    within(LIMIT, nats.reload(users(&[("user", DEAF)]))).await;
    let error = within(LIMIT, held.try_next()).await.expect_err("lost");
    assert_eq!(
        (error.kind(), error.lost_cause()),
        (RequestErrorKind::Lost, Some(LostCause::Silent))
    );
    // Nobody is subscribed to what it sends to.
    assert_eq!(within(LIMIT, closed.recv()).await, Some(CloseReason::Gone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_that_is_taken_away_ends_its_endpoint_which_can_be_started_anew() {
    let mut nats = start(users(&[("user", EVERYTHING)])).await;
    let (server, _) = serve(connect(&nats, "user").await).await;
    let pool = pool(&nats, "all").await;
    complete(pool.request_stream("svc.count", LONG), LONG_ITEMS).await;
    for permissions in ["publish: \">\", subscribe: [\"_INBOX.>\"]", EVERYTHING] {
        within(LIMIT, nats.reload(users(&[("user", permissions)]))).await;
        let error = failure(pool.request_stream("svc.count", LONG)).await;
        assert_eq!(error.kind(), RequestErrorKind::NoResponders);
        settles(LIMIT, async || number(&server, "endpoints: "), 0).await;
    }
    within(LIMIT, server.on("svc.count", count)).await.expect("served");
    complete(pool.request_stream("svc.count", LONG), LONG_ITEMS).await;
    assert_untouched(server.connection());
}
