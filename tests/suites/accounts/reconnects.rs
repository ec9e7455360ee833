//! A connection that breaks and comes back in the middle of a stream.

use std::sync::Arc;
use std::time::Duration;

use integration::LIMIT;
use integration::numbers::item;
use natstream::{CloseReason, HandlerError, LostCause, Pool, RequestErrorKind, ResponseSender, Responses, Server};
use testkit::{NatsServer, Proxy, settles, within};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};

use crate::{Accounts, HEARTBEAT, IMPORT, STREAM, accounts, connect, mappings};

/// Both sides behind proxies of their own, and a stream that the test sets the pace of.
struct Stage {
    nats: NatsServer,
    proxies: [Proxy; 2],
    _server: Server,
    responses: Responses,
    pace: Arc<Semaphore>,
    closed: mpsc::UnboundedReceiver<CloseReason>,
}

impl Stage {
    async fn start() -> Self {
        let config = accounts(", response_type: stream, response_threshold: \"10s\"", IMPORT);
        let nats = within(LIMIT, NatsServer::builder().monitoring(true).config(config).start()).await;
        let address = nats.url();
        let proxies = [Proxy::start(&address).await, Proxy::start(&address).await];
        let pool = Pool::new(connect(proxies[0].url(), "app").await);
        let server = Server::new(connect(proxies[1].url(), "svc").await);
        let pace = Arc::new(Semaphore::new(0));
        let (report, closed) = mpsc::unbounded_channel();
        let handler = {
            let pace = pace.clone();
            move |_request, mut out: ResponseSender| {
                let (pace, report) = (pace.clone(), report.clone());
                async move {
                    loop {
                        let permit = tokio::select! {
                            permit = pace.acquire() => permit,
                            reason = out.closed() => {
                                let _ = report.send(reason);
                                return Ok(());
                            }
                        };
                        // It is closed to end the stream.
                        let Ok(permit) = permit else {
                            return Ok::<_, HandlerError>(());
                        };
                        permit.forget();
                        out.send(item(out.sent() as u32)).await?;
                    }
                }
            }
        };
        within(LIMIT, server.on("svc.pace", handler)).await.expect("served");
        let request = pool.request_stream("svc.pace", "").heartbeat(HEARTBEAT);
        let mut stage = Self {
            nats,
            proxies,
            _server: server,
            responses: within(LIMIT, request).await.expect("sent"),
            pace,
            closed,
        };
        stage.goes_on().await;
        stage
    }

    async fn goes_on(&mut self) {
        let from = self.responses.received() as u32;
        self.pace.add_permits(1000);
        for number in from..from + 1000 {
            let received = within(LIMIT, self.responses.try_next()).await.expect("no loss");
            assert_eq!(received.expect("no end"), item(number));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_reconnects_has_lost_its_stream() {
    let mut stage = Stage::start().await;
    stage.proxies[0].cut();
    let error = within(LIMIT, stage.responses.try_next()).await.expect_err("lost");
    let cause = (error.kind(), error.lost_cause(), error.items());
    assert_eq!(
        cause,
        (RequestErrorKind::Lost, Some(LostCause::MappingEnded), 1000),
        "{error}"
    );
    // The responder is told: it does not have to wait for three heartbeats.
    let reason = within(LIMIT, stage.closed.recv()).await.expect("a reason");
    assert_eq!(reason, CloseReason::Cancelled);
    settles(LIMIT, || mappings(&stage.nats), [0, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_responder_that_reconnects_within_the_threshold_goes_on() {
    let mut stage = Stage::start().await;
    for cut in 2..5 {
        stage.proxies[1].cut();
        within(LIMIT, stage.proxies[1].connected(cut)).await;
        stage.goes_on().await;
    }
    stage.pace.close();
    assert_eq!(within(LIMIT, stage.responses.try_next()).await.expect("complete"), None);
    assert_eq!(stage.responses.reconnects(), 0);
    settles(LIMIT, || mappings(&stage.nats), [0, 0]).await;
}

/// Calls that wait for more.
const HELD: usize = 20;

/// A caller's process with running calls, on another thread: a runtime may not be made and ended in a task.
fn caller_that_ends(url: String, end: impl FnOnce(&Runtime, Pool, Vec<Responses>) + Send + 'static) {
    let caller = std::thread::spawn(move || {
        let runtime = Runtime::new().expect("a runtime");
        let (pool, calls) = runtime.block_on(async {
            let pool = Pool::new(connect(url, "app").await);
            let mut calls = Vec::new();
            for _ in 0..HELD {
                let request = pool.request_stream("svc.hold", "").heartbeat(HEARTBEAT);
                let mut responses = within(LIMIT, request).await.expect("sent");
                within(LIMIT, responses.try_next()).await.expect("an item");
                calls.push(responses);
            }
            (pool, calls)
        });
        end(&runtime, pool, calls);
    });
    caller.join().expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_dies_leaves_a_mapping_for_each_running_call() {
    let stage = Accounts::start(STREAM).await;
    let (report, mut closed) = mpsc::unbounded_channel();
    let hold = move |_request, mut out: ResponseSender| {
        let report = report.clone();
        async move {
            out.send("item").await?;
            let _ = report.send(out.closed().await);
            Ok::<_, HandlerError>(())
        }
    };
    within(LIMIT, stage.server.on("svc.hold", hold)).await.expect("served");
    let url = stage.nats.url();
    // One that cancels its calls, and waits until that is known, leaves nothing.
    tokio::task::block_in_place(|| {
        caller_that_ends(url.clone(), |runtime, pool, calls| {
            runtime.block_on(within(LIMIT, pool.drain(Duration::ZERO)));
            drop(calls);
        });
    });
    for _ in 0..HELD {
        assert_eq!(within(LIMIT, closed.recv()).await, Some(CloseReason::Cancelled));
    }
    stage.settled().await;
    tokio::task::block_in_place(|| {
        caller_that_ends(url, |_, pool, calls| {
            // So that nothing of it is said.
            std::mem::forget((pool, calls));
        });
    });
    for _ in 0..HELD {
        assert_eq!(within(LIMIT, closed.recv()).await, Some(CloseReason::Gone));
    }
    // Only the caller can end these, or the end of the responder's connection where it has the same nats-server (rule 59).
    assert_eq!(mappings(&stage.nats).await, [0, HELD]);
    within(LIMIT, stage.server.connection().close(LIMIT))
        .await
        .expect("closed");
    stage.settled().await;
}
