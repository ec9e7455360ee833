//! A peer that is gone, and a network that is silent: who says what, and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use integration::{LIMIT, Peers, connection};
use natstream::{
    CloseReason, Connection, HandlerError, LostCause, Pool, RequestError, RequestErrorKind, ResponseSender, Responses,
    SendErrorKind, Server,
};
use testkit::{Flow, NatsServer, Proxy, shared_url, unique_subject, within};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};

/// The shortest that there is: silence is lost after three.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Three heartbeats since the last sign, which may be one old. Nothing but a verdict comes earlier.
const AT_LEAST: Duration = Duration::from_millis(1900);

/// Three heartbeats, or 5 s of 503 after the first sign of them, on a slow machine.
const AT_MOST: Duration = Duration::from_secs(12);

/// What a handler heard: why it was closed, and when.
type Heard = mpsc::UnboundedReceiver<(CloseReason, Instant)>;

/// Serves one item and then nothing until the stream is closed.
async fn serve_hold(server: &Server, subject: &str) -> Heard {
    let (report, heard) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let report = report.clone();
        async move {
            out.send("item").await?;
            let reason = out.closed().await;
            let at = Instant::now();
            let error = out.send("late").await.expect_err("the stream is closed");
            assert_eq!((error.kind(), error.reason()), (SendErrorKind::Closed, Some(reason)));
            let _ = report.send((reason, at));
            Ok::<_, HandlerError>(())
        }
    };
    let endpoint = server.on(subject, handler).outage_limit(Duration::from_secs(60));
    within(LIMIT, endpoint).await.expect("served");
    heard
}

/// A call whose first item is here.
async fn call(pool: &Pool, subject: &str) -> Responses {
    let request = pool.request_stream(subject, "").heartbeat(HEARTBEAT);
    let mut responses = within(LIMIT, request).await.expect("sent");
    let item = within(LIMIT, responses.try_next()).await.expect("an item");
    assert_eq!(item.as_deref(), Some(&b"item"[..]));
    responses
}

async fn lost(responses: &mut Responses) -> (RequestError, Instant) {
    let error = within(LIMIT, responses.try_next()).await.expect_err("lost");
    assert_eq!((error.kind(), error.items()), (RequestErrorKind::Lost, 1), "{error}");
    (error, Instant::now())
}

#[track_caller]
fn assert_in_time(began: Instant, at: Instant) {
    let after = at.saturating_duration_since(began);
    assert!((AT_LEAST..AT_MOST).contains(&after), "after {after:?}");
}

#[tokio::test]
async fn a_caller_whose_process_ends_is_gone() {
    let server = Server::new(connection(shared_url()).await);
    let subject = unique_subject("deaths");
    let mut heard = serve_hold(&server, &subject).await;
    // On another thread: a runtime may not be made and ended in a task.
    let caller = std::thread::spawn(move || {
        let runtime = Runtime::new().expect("a runtime");
        let responses = runtime.block_on(async {
            let pool = Pool::new(connection(shared_url()).await);
            call(&pool, &subject).await
        });
        drop(runtime);
        let ended = Instant::now();
        drop(responses);
        ended
    });
    let (reason, at) = within(LIMIT, heard.recv()).await.expect("a report");
    let ended = caller.join().expect("no panic");
    assert_eq!(reason, CloseReason::Gone);
    assert_in_time(ended, at);
}

#[tokio::test]
async fn a_responder_whose_process_ends_is_lost() {
    let pool = Pool::new(connection(shared_url()).await);
    let subject = unique_subject("deaths");
    let (started, served) = tokio::sync::oneshot::channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let responder = std::thread::spawn({
        let subject = subject.clone();
        move || {
            let runtime = Runtime::new().expect("a runtime");
            let _left = runtime.block_on(async {
                let server = Server::new(connection(shared_url()).await);
                let heard = serve_hold(&server, &subject).await;
                (server, heard)
            });
            started.send(()).expect("the test waits");
            // Ends with the test, at the latest.
            let _ = ends.recv();
            drop(runtime);
            Instant::now()
        }
    });
    within(LIMIT, served).await.expect("served");
    let mut responses = call(&pool, &subject).await;
    end.send(()).expect("the thread waits");
    let (error, at) = lost(&mut responses).await;
    let ended = responder.join().expect("no panic");
    // Nobody is subscribed, and nobody speaks: whichever is certain first.
    assert!(
        matches!(error.lost_cause(), Some(LostCause::Silent | LostCause::Gone)),
        "{error}"
    );
    assert_in_time(ended, at);
}

/// A caller and a responder, of which one is behind a proxy.
struct Behind {
    proxy: Proxy,
    subject: String,
    responses: Responses,
    heard: Heard,
    pool: Pool,
    _server: Server,
}

/// Who is behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Caller,
    Responder,
}

impl Behind {
    async fn set_up(side: Side) -> Self {
        let proxy = Proxy::start(shared_url()).await;
        let through = |is_behind| {
            if is_behind {
                proxy.url()
            } else {
                shared_url().to_owned()
            }
        };
        let pool = Pool::new(connection(&through(side == Side::Caller)).await);
        let server = Server::new(connection(&through(side == Side::Responder)).await);
        let subject = unique_subject("deaths");
        let heard = serve_hold(&server, &subject).await;
        let responses = call(&pool, &subject).await;
        Self {
            proxy,
            subject,
            responses,
            heard,
            pool,
            _server: server,
        }
    }

    /// Both sides find out, by the silence alone.
    async fn both_find_out(mut self, began: Instant) {
        let (error, at) = lost(&mut self.responses).await;
        assert_eq!(error.lost_cause(), Some(LostCause::Silent));
        assert_in_time(began, at);
        let (reason, at) = within(LIMIT, self.heard.recv()).await.expect("a report");
        assert_eq!(reason, CloseReason::Gone);
        assert_in_time(began, at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_is_silence_to_both() {
    for side in [Side::Caller, Side::Responder] {
        let behind = Behind::set_up(side).await;
        let began = Instant::now();
        behind.proxy.blackhole(Flow::Both, true);
        behind.both_find_out(began).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_silence_to_both() {
    let tests = [Side::Caller, Side::Responder].map(|side| {
        [Flow::ToServer, Flow::ToClient].map(|flow| async move {
            let behind = Behind::set_up(side).await;
            let began = Instant::now();
            behind.proxy.half_open(flow, true);
            behind.both_find_out(began).await;
        })
    });
    let tests = tests.into_iter().flatten();
    futures_util::future::join_all(tests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_silence_is_none() {
    let mut behind = Behind::set_up(Side::Caller).await;
    behind.proxy.blackhole(Flow::Both, true);
    let early = tokio::time::timeout(Duration::from_secs(1), behind.responses.try_next()).await;
    assert!(early.is_err(), "{early:?}");
    behind.proxy.blackhole(Flow::Both, false);
    // Longer than three heartbeats: nothing is left of the silence.
    let later = tokio::time::timeout(Duration::from_secs(4), behind.responses.try_next()).await;
    assert!(later.is_err(), "{later:?}");
    drop(behind.responses);
    let (reason, _) = within(LIMIT, behind.heard.recv()).await.expect("a report");
    assert_eq!(reason, CloseReason::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_responder_that_comes_back_in_time_again_and_again_is_never_lost() {
    let proxy = Proxy::start(shared_url()).await;
    let pool = Pool::new(connection(shared_url()).await);
    let server = Server::new(connection(&proxy.url()).await);
    let subject = unique_subject("deaths");
    let enough = Arc::new(Notify::new());
    let handler = {
        let enough = enough.clone();
        move |_request, mut out: ResponseSender| {
            let enough = enough.clone();
            async move {
                let mut tick = tokio::time::interval(Duration::from_millis(20));
                let ended = enough.notified();
                tokio::pin!(ended);
                for number in 0u32.. {
                    tokio::select! {
                        () = &mut ended => break,
                        _ = tick.tick() => out.send(number.to_be_bytes()).await?,
                    }
                }
                Ok(())
            }
        }
    };
    within(LIMIT, server.on(&subject, handler)).await.expect("served");
    let request = pool.request_stream(&subject, "").heartbeat(HEARTBEAT);
    let mut responses = within(LIMIT, request).await.expect("sent");
    let mut expected = 0u32;
    let mut take = async |responses: &mut Responses| {
        let item = within(LIMIT, responses.try_next()).await.expect("no loss");
        let Some(item) = item else { return false };
        assert_eq!(item, expected.to_be_bytes()[..]);
        expected += 1;
        true
    };
    for _ in 0..4 {
        for _ in 0..20 {
            assert!(take(&mut responses).await);
        }
        proxy.listen(false).await;
        proxy.cut();
        // sleep: longer than a heartbeat, so that the caller asks and hears that nobody is there.
        let down = tokio::time::sleep(Duration::from_millis(1800));
        tokio::pin!(down);
        loop {
            tokio::select! {
                () = &mut down => break,
                // What was on its way.
                is_item = take(&mut responses) => assert!(is_item),
            }
        }
        proxy.listen(true).await;
    }
    assert!(take(&mut responses).await);
    enough.notify_one();
    while take(&mut responses).await {}
    assert!(pool.stats().suspicions >= 2, "{:?}", pool.stats());
    assert_eq!((pool.stats().items, responses.reconnects()), (expected.into(), 0));
}

/// Takes the network away, and waits until the connection has noticed.
async fn cut_off(proxy: &Proxy, connection: &Connection) -> Instant {
    proxy.listen(false).await;
    proxy.cut();
    let mut state = connection.state();
    within(LIMIT, state.wait_for(|state| !state.is_connected()))
        .await
        .expect("down");
    Instant::now()
}

const OUTAGE: Duration = Duration::from_secs(2);

/// An outage limit that has passed: not earlier than it may, not much later.
#[track_caller]
fn assert_limit(began: Instant, at: Instant) {
    let after = at.saturating_duration_since(began);
    // The outage began before it was seen.
    let least = OUTAGE - Duration::from_millis(500);
    assert!(
        (least..OUTAGE + Duration::from_secs(5)).contains(&after),
        "after {after:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_is_cut_off_for_too_long_has_lost_its_answer() {
    let Behind {
        proxy,
        subject,
        pool,
        responses,
        _server,
        heard: _heard,
    } = Behind::set_up(Side::Caller).await;
    drop(responses);
    let request = pool.request_stream(&subject, "").outage_limit(OUTAGE);
    let mut responses = within(LIMIT, request).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");
    let began = cut_off(&proxy, pool.connection().expect("one connection")).await;
    let (error, at) = lost(&mut responses).await;
    assert_eq!(error.lost_cause(), Some(LostCause::Disconnected));
    assert_limit(began, at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_responder_that_is_cut_off_for_too_long_gives_up_its_streams() {
    let proxy = Proxy::start(shared_url()).await;
    let pool = Pool::new(connection(shared_url()).await);
    let server = Server::new(connection(&proxy.url()).await);
    let subject = unique_subject("deaths");
    let (report, mut heard) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let report = report.clone();
        async move {
            out.send("item").await?;
            let reason = out.closed().await;
            let _ = report.send((reason, Instant::now()));
            Ok(())
        }
    };
    within(LIMIT, server.on(&subject, handler).outage_limit(OUTAGE))
        .await
        .expect("served");
    let mut responses = call(&pool, &subject).await;
    let began = cut_off(&proxy, server.connection()).await;
    let (reason, at) = within(LIMIT, heard.recv()).await.expect("a report");
    assert_eq!(reason, CloseReason::Disconnected);
    assert_limit(began, at);
    lost(&mut responses).await;
}

/// A request whose answer is under way when the caller's connection dies; it is back when this returns.
async fn answer_in_flight(handler_ends: bool) -> (Responses, Peers, Proxy, Instant) {
    let proxy = Proxy::start(shared_url()).await;
    let pool = Pool::new(connection(&proxy.url()).await);
    let server = Server::new(connection(shared_url()).await);
    let subject = unique_subject("deaths");
    let handler = move |_request, mut out: ResponseSender| async move {
        out.send("item").await?;
        if !handler_ends {
            out.closed().await;
        }
        Ok(())
    };
    let endpoint = within(LIMIT, server.on(&subject, handler)).await.expect("served");
    // The pool listens already.
    let warm = pool.request_stream(unique_subject("nobody"), "");
    within(LIMIT, within(LIMIT, warm).await.expect("sent").collect_all(1))
        .await
        .expect_err("nobody");
    proxy.blackhole(Flow::ToClient, true);
    let request = pool.request_stream(&subject, "").heartbeat(HEARTBEAT);
    let responses = within(LIMIT, request).await.expect("sent");
    let begun = || std::future::ready(endpoint.stats().requests);
    testkit::settles(LIMIT, begun, 1).await;
    within(LIMIT, server.connection().fence(LIMIT))
        .await
        .expect("the answer has left");
    proxy.cut();
    proxy.blackhole(Flow::ToClient, false);
    let mut state = pool.connection().expect("one connection").state();
    let back = state.wait_for(|state| state.epoch == 2 && state.is_connected());
    within(LIMIT, back).await.expect("back");
    (responses, Peers { pool, server }, proxy, Instant::now())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_answer_that_was_in_flight_when_the_connection_died_is_unanswered() {
    let (mut responses, _peers, _proxy, back) = answer_in_flight(true).await;
    let error = within(LIMIT, responses.try_next()).await.expect_err("unanswered");
    assert_eq!((error.kind(), error.items()), (RequestErrorKind::Unanswered, 0));
    let after = back.elapsed();
    let expected = Duration::from_millis(4500)..Duration::from_secs(10);
    assert!(expected.contains(&after), "after {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_message_that_was_in_flight_when_the_connection_died_is_sent_again() {
    let (mut responses, _peers, _proxy, _) = answer_in_flight(false).await;
    let item = within(LIMIT, responses.try_next()).await.expect("no loss");
    assert_eq!(item.as_deref(), Some(&b"item"[..]));
}

#[tokio::test]
async fn a_nats_server_that_never_comes_back_is_the_end_of_both() {
    let mut nats = NatsServer::start().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("deaths");
    let (report, mut heard) = mpsc::unbounded_channel();
    let handler = move |_request, mut out: ResponseSender| {
        let report = report.clone();
        async move {
            // Until the queue is full and the stream closed: a send that waits ends too.
            let error = loop {
                if let Err(error) = out.send([7; 1000]).await {
                    break error;
                }
            };
            let _ = report.send((error.kind(), error.reason()));
            Err(HandlerError::internal(error))
        }
    };
    within(LIMIT, server.on(&subject, handler).outage_limit(OUTAGE))
        .await
        .expect("served");
    let request = pool.request_stream(&subject, "").outage_limit(OUTAGE);
    let mut responses = within(LIMIT, request).await.expect("sent");
    for _ in 0..10 {
        within(LIMIT, responses.try_next()).await.expect("an item");
    }
    let began = Instant::now();
    nats.kill();
    let heard = within(LIMIT, heard.recv()).await.expect("a report");
    assert_eq!(heard, (SendErrorKind::Closed, Some(CloseReason::Disconnected)));
    assert_limit(began, Instant::now());
    // What had arrived is still read.
    let error = loop {
        if let Err(error) = within(LIMIT, responses.try_next()).await {
            break error;
        }
    };
    assert_eq!(
        (error.kind(), error.lost_cause()),
        (RequestErrorKind::Lost, Some(LostCause::Disconnected))
    );
    assert_eq!(error.items(), responses.received());
    // It is not asked again and again who is not there.
    let late = pool
        .request_stream(&subject, "")
        .connect_timeout(Duration::from_millis(100));
    let error = within(LIMIT, late).await.expect_err("down");
    assert_eq!(error.kind(), RequestErrorKind::Timeout);
}
