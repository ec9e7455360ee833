//! Refusals in numbers, and clients that hear of none.

use std::time::Instant;

use futures_util::future::join_all;
use integration::LIMIT;
use integration::numbers::{complete, failure};
use natstream::{Clock, LostCause, RequestErrorKind, Server, async_nats};
use testkit::{settles_where, within};

use crate::*;

/// May call `svc.count`, and nothing else.
const NARROW: (&str, &str) = (
    "narrow",
    "publish: [\"svc.count\", \"_INBOX.>\", \"noise.>\"], subscribe: [\"_INBOX.>\"]",
);
const DEAF: (&str, &str) = ("deaf", "publish: \">\", subscribe: [\"nothing\"]");
const MUTE: (&str, &str) = ("mute", "publish: [\"svc.>\"]");

/// Refused messages, as fast as the connection takes them.
const STORM: usize = 40_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_denied_calls_end_in_time_and_for_what_they_lack() {
    let nats = start(users(&[NARROW, DEAF, MUTE])).await;
    let _served = serve(connect(&nats, "all").await).await;
    // async-nats keeps 128 complaints and drops the rest. Here one is enough for all calls to a subject, or for all native
    // calls without an inbox; those in a plain dialect, and those without control, need one each.
    for (user, denied, subject, other, many) in [
        ("narrow", Denied::Request, "svc.other", Dialect::Text, 200),
        ("deaf", Denied::Inbox, "svc.count", Dialect::Text, 200),
        ("mute", Denied::Control, "svc.count", Dialect::AutoText, 100),
    ] {
        let pool = pool(&nats, user).await;
        let began = Instant::now();
        let calls = (0..many).map(|number| {
            let dialect = if number % 2 == 0 { Dialect::Native } else { other };
            let request = pool.request_stream(subject, LONG).heartbeat(HEARTBEAT);
            failure(request.dialect(dialect))
        });
        for error in join_all(calls).await {
            let seen = (error.kind(), error.denied());
            assert_eq!(seen, (RequestErrorKind::NotPermitted, Some(denied)), "{error}");
        }
        assert!(began.elapsed() < 3 * AT_ONCE, "{denied:?} after {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_refusals_does_not_hold_up_other_calls() {
    let nats = start(users(&[NARROW])).await;
    let _served = serve(connect(&nats, "all").await).await;
    let pool = pool(&nats, "narrow").await;
    let calls = async || {
        let began = Instant::now();
        let calls = (0..8).map(|_| complete(pool.request_stream("svc.count", LONG), LONG_ITEMS));
        join_all(calls).await;
        began.elapsed()
    };
    let calm = calls().await;
    let storm = async {
        for number in 0..STORM {
            let sent = pool
                .connection()
                .expect("one connection")
                .nats()
                .publish(format!("svc.other.{number}"), "".into());
            within(LIMIT, sent).await.expect("sent");
        }
    };
    let ((), during) = tokio::join!(storm, calls());
    assert!(during < 10 * calm + LIMIT / 6, "{during:?} in place of {calm:?}");
    // A call in the storm may not be told, since complaints are dropped; afterwards each is told again.
    within(LIMIT, pool.connection().expect("one connection").fence(LIMIT))
        .await
        .expect("everything was refused");
    let told = async || failure(pool.request_stream("svc.denied", "")).await.denied();
    settles_where(LIMIT, told, |denied| *denied == Some(Denied::Request)).await;
}

/// A client that somebody else has made, whose complaints nobody hears.
async fn foreign(nats: &NatsServer, user: &str) -> Connection {
    let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), "p".to_owned());
    let client = within(LIMIT, options.connect(nats.url())).await.expect("connected");
    Connection::from_nats(client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_client_has_no_typed_error_but_a_verdict_in_time() {
    let nats = start(users(&[NARROW, DEAF, MUTE, ("unserving", "subscribe: [\"_INBOX.>\"]")])).await;
    let _served = serve(connect(&nats, "all").await).await;
    let verdict = async |user: &str, subject: &str, dialect| {
        let pool = Pool::new(foreign(&nats, user).await);
        let began = Instant::now();
        let request = pool.request_stream(subject, LONG).dialect(dialect).heartbeat(HEARTBEAT);
        let request = match dialect {
            Dialect::Native => request,
            _ => request.first_item_timeout(HEARTBEAT),
        };
        let error = failure(request).await;
        // The 5 s after which nobody has answered; or what is sent without credit, and then three heartbeats on both sides.
        assert!(
            began.elapsed() < Duration::from_secs(12),
            "{error} after {:?}",
            began.elapsed()
        );
        (error.kind(), error.lost_cause(), error.clock())
    };
    for user in ["narrow", "deaf"] {
        let native = verdict(user, "svc.other", Dialect::Native);
        let text = verdict(user, "svc.other", Dialect::Text);
        let (native, text) = tokio::join!(native, text);
        assert_eq!(native, (RequestErrorKind::Unanswered, None, None));
        assert_eq!(text, (RequestErrorKind::Timeout, None, Some(Clock::FirstItem)));
    }
    let mute = verdict("mute", "svc.count", Dialect::Native).await;
    assert_eq!(mute, (RequestErrorKind::Lost, Some(LostCause::Silent), None));

    // Serving looks like success; it is the callers who see that nobody serves.
    let server = Server::new(foreign(&nats, "unserving").await);
    within(LIMIT, server.on("svc.unserved", count)).await.expect("unheard");
    let error = failure(pool(&nats, "all").await.request_stream("svc.unserved", "")).await;
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
}
