//! Calls of every ending, and handles that end in every order, leave nothing behind.
//!
//! `NATSTREAM_CALLS=100000 cargo test --release -p integration --test leak -- --nocapture` is the long form, with figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use integration::{LIMIT, Peers, connection};
use natstream::{Pool, RequestErrorKind, ResponseSender, Responses, Server};
use testkit::{NatsServer, alive_tasks, settles, settles_where, unique_subject, within};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, MutexGuard, Semaphore};

use self::calls::Stage;
use self::levels::{Level, Memory};
use self::responder::PANIC;

mod allocator;
mod calls;
mod levels;
mod responder;

/// The heap and the panic hook are the process's: one test at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// Takes the turn, and sees to it that panics that are wanted are not shown.
fn turn(guard: MutexGuard<'static, ()>) -> MutexGuard<'static, ()> {
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<String>().is_none_or(|text| text != PANIC) {
            shown(info);
        }
    }));
    guard
}

async fn nats() -> NatsServer {
    within(LIMIT, NatsServer::builder().monitoring(true).start()).await
}

/// Memory is compared after each part of the calls.
const PARTS: usize = 3;

fn calls() -> usize {
    let calls = std::env::var("NATSTREAM_CALLS").ok();
    calls.map_or(3000, |calls| calls.parse().expect("NATSTREAM_CALLS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "figures for who asks for them")]
async fn calls_of_every_ending_leave_nothing() {
    let _turn = turn(TURN.lock().await);
    let nats = nats().await;
    let stage = Stage::set_up(&nats.url()).await;
    let (pool, server) = (&stage.pool, &stage.server);
    let now = || Level::now(&nats, pool, server);
    // The first part makes what is made once, and brings tables to the size that they need.
    let mut first = None;
    for part in 0..PARTS {
        let began = Instant::now();
        stage.play(calls() / PARTS).await;
        let played = began.elapsed();
        let (least, memory) = *first.get_or_insert((settles_where(LIMIT, now, Level::is_idle).await, Memory::now()));
        let level = settles_where(LIMIT, now, |level| level.is_idle() && level.is_within(&least)).await;
        let over = began.elapsed();
        let memory = memory.settles().await;
        println!("part {part}: {played:.1?}, all over after {over:.1?}; {level:?}, {memory:?}");
    }
    println!("{:?}\n{:?}", pool.stats(), server.stats());
    for endpoint in &stage.endpoints {
        println!("{endpoint:?}");
        assert!(endpoint.stats().active <= 1, "{endpoint:?}");
    }
}

/// What a handler does that nobody ends: it reports that it runs, and waits for its caller to leave.
async fn hold(_request: natstream::Request, mut out: ResponseSender) -> Result<(), natstream::HandlerError> {
    out.send("item").await?;
    out.closed().await;
    Ok(())
}

/// A call that is under way.
async fn held(pool: &Pool, subject: &str) -> Responses {
    let request = pool.request_stream(subject, "").heartbeat(Duration::from_secs(1));
    let mut responses = within(LIMIT, request).await.expect("sent");
    within(LIMIT, responses.try_next()).await.expect("an item");
    responses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_open_and_close_leave_nothing() {
    let _turn = turn(TURN.lock().await);
    let nats = nats().await;
    let open_and_close = async |number: usize| {
        let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
        let subject = unique_subject("leak");
        within(LIMIT, server.on(&subject, hold)).await.expect("served");
        let responses = held(&pool, &subject).await;
        // Closed or dropped, and what was made first may end first or last.
        match number % 4 {
            0 => drop((responses, pool, server)),
            1 => drop((server, pool, responses)),
            2 => {
                within(LIMIT, pool.connection().expect("one connection").close(LIMIT))
                    .await
                    .expect("closed");
                within(LIMIT, server.connection().close(LIMIT)).await.expect("closed");
            }
            _ => {
                within(LIMIT, server.drain(Duration::ZERO)).await;
                within(LIMIT, pool.drain(Duration::ZERO)).await;
                drop(responses);
            }
        }
    };
    for number in 0..40 {
        open_and_close(number).await;
    }
    let empty = async || (alive_tasks(), nats.levels().await.connections);
    settles(LIMIT, empty, (0, 0)).await;
    let level = nats.levels().await;
    let before = Memory::now();
    for number in 0..200 {
        open_and_close(number).await;
    }
    settles(LIMIT, || nats.levels(), level).await;
    settles(LIMIT, empty, (0, 0)).await;
    before.settles().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_and_servers_that_come_and_go_on_one_connection_leave_nothing() {
    let _turn = turn(TURN.lock().await);
    let nats = nats().await;
    let (asks, serves) = (connection(&nats.url()).await, connection(&nats.url()).await);
    let come_and_go = async |number: usize| {
        let (pool, server) = (Pool::new(asks.clone()), Server::new(serves.clone()));
        let subject = unique_subject("leak");
        within(LIMIT, server.on(&subject, hold)).await.expect("served");
        let responses = held(&pool, &subject).await;
        match number % 3 {
            0 => drop((pool, server, responses)),
            1 => drop((responses, server, pool)),
            _ => {
                let unsent = pool.request_stream(&subject, "").into_future();
                drop((pool, server, unsent, responses));
            }
        }
    };
    let at_first = nats.levels().await;
    for number in 0..30 {
        come_and_go(number).await;
    }
    let level = async || (nats.levels().await, asks.driver().load(), serves.driver().load());
    // What is made for the first pool and server of a connection stays with it.
    let before = (at_first, (0, 0), (0, 0));
    settles(LIMIT, level, before).await;
    let tasks = alive_tasks();
    let memory = Memory::now();
    for number in 0..200 {
        come_and_go(number).await;
    }
    settles(LIMIT, level, before).await;
    settles(LIMIT, || std::future::ready(alive_tasks()), tasks).await;
    memory.settles().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_dropped_with_running_handlers_leaves_nothing_when_they_end() {
    let _turn = turn(TURN.lock().await);
    let nats = nats().await;
    let round = async || {
        let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
        let go_on = Arc::new(Semaphore::new(0));
        let subject = unique_subject("leak");
        let handler = {
            let go_on = go_on.clone();
            move |_request, mut out: ResponseSender| {
                let go_on = go_on.clone();
                async move {
                    out.send("item").await?;
                    let _ = go_on.acquire().await;
                    out.send("last").await?;
                    Ok(())
                }
            }
        };
        within(LIMIT, server.on(&subject, handler)).await.expect("served");
        let mut calls = Vec::new();
        for _ in 0..20 {
            calls.push(held(&pool, &subject).await);
        }
        drop(server);
        go_on.close();
        for mut call in calls {
            let last = within(LIMIT, call.try_next()).await.expect("complete");
            assert_eq!(last.as_deref(), Some(&b"last"[..]));
            assert_eq!(within(LIMIT, call.try_next()).await.expect("complete"), None);
        }
    };
    let empty = async || (alive_tasks(), nats.levels().await.connections);
    round().await;
    settles(LIMIT, empty, (0, 0)).await;
    let before = Memory::now();
    for _ in 0..20 {
        round().await;
    }
    settles(LIMIT, empty, (0, 0)).await;
    before.settles().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_given_up_while_nats_server_is_down_leave_nothing() {
    let _turn = turn(TURN.lock().await);
    let mut nats = nats().await;
    let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
    let subject = unique_subject("leak");
    within(LIMIT, server.on(&subject, hold)).await.expect("served");
    drop(held(&pool, &subject).await);
    let idle = |level: &Level| level.is_without_calls();
    settles_where(LIMIT, || Level::now(&nats, &pool, &server), idle).await;
    nats.kill();
    let mut state = pool.connection().expect("one connection").state();
    let down = state.wait_for(|state| !state.is_connected());
    within(LIMIT, down).await.expect("down");
    let give_up = |requests| {
        for _ in 0..requests {
            let sent = pool.request_stream(&subject, "").into_future().now_or_never();
            assert!(sent.is_none(), "sent to nobody: {sent:?}");
        }
    };
    give_up(10);
    let before = Memory::now();
    give_up(1000);
    let short = Duration::from_millis(20);
    let late = within(LIMIT, pool.request_stream(&subject, "").connect_timeout(short)).await;
    assert_eq!(late.expect_err("down").kind(), RequestErrorKind::Timeout);
    before.settles().await;
    assert_eq!(pool.connection().expect("one connection").driver().load(), (0, 0));
    within(LIMIT, nats.restart()).await;
    settles_where(LIMIT, || Level::now(&nats, &pool, &server), idle).await;
}

#[test]
fn runtimes_that_end_with_live_streams_leave_nothing() {
    let _turn = turn(TURN.blocking_lock());
    let observer = Runtime::new().expect("a runtime");
    let nats = observer.block_on(nats());
    let round = |number: usize| {
        let runtime = Runtime::new().expect("a runtime");
        let left = runtime.block_on(async {
            let Peers { pool, server } = Peers::connect_to(&nats.url()).await;
            let subject = unique_subject("leak");
            within(LIMIT, server.on(&subject, hold).max_concurrent(10).max_queued(10))
                .await
                .expect("served");
            let mut calls = Vec::new();
            for _ in 0..10 {
                calls.push(held(&pool, &subject).await);
            }
            // Queued; never answered.
            calls.push(within(LIMIT, pool.request_stream(&subject, "")).await.expect("sent"));
            (pool, server, calls)
        });
        // Handles end before the runtime, or after it.
        match number % 2 {
            0 => {
                drop(runtime);
                drop(left);
            }
            _ => {
                drop(left);
                drop(runtime);
            }
        }
    };
    for number in 0..4 {
        round(number);
    }
    let connections = async || nats.levels().await.connections;
    observer.block_on(settles(LIMIT, connections, 0));
    let before = Memory::now();
    for number in 0..20 {
        round(number);
    }
    observer.block_on(async {
        settles(LIMIT, connections, 0).await;
        before.settles().await;
    });
}
