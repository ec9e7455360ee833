//! What would be easy to get wrong: each of these was, once.

use std::sync::atomic::{AtomicU64, Ordering as Atomic};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use integration::bus::{messages, numbers, stream};
use integration::{LIMIT, connection};
use natstream::eventbus::Dedup;
use natstream::eventbus::topology::{Discard, StreamSpec, Topology};
use natstream::{Bus, ConnectConfig, Connection, Credentials, Event, PublishErrorKind};
use testkit::{NatsServer, settles_where, shared_url, unique_name, unique_subject, within};

async fn declared(connection: &Connection) -> (String, String) {
    let (name, subject) = (unique_name("FAULTS"), unique_subject("faults"));
    stream(connection, StreamSpec::new(&name, [format!("{subject}.>")])).await;
    (name, format!("{subject}.x"))
}

/// `on_failure` may use the bus: it does so for many events that fail together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_failure_that_enqueues_does_not_overflow_the_stack() {
    let connection = connection(shared_url()).await;
    let (_, subject) = declared(&connection).await;
    let nowhere = unique_subject("nowhere");
    let later: Arc<OnceLock<Bus>> = Arc::default();
    let bus = Bus::builder(connection)
        .window(20_000)
        .deadline(Duration::from_secs(2))
        .on_failure({
            let later = later.clone();
            move |error| {
                let elsewhere = Event::new(subject.clone(), error.into_event().payload().clone());
                drop(later.get().expect("set").try_enqueue(elsewhere.deadline(LIMIT)));
            }
        });
    let bus = within(LIMIT, bus.open()).await.expect("open");
    assert!(later.set(bus.clone()).is_ok());
    for n in 0..10_000 {
        within(LIMIT, bus.enqueue(Event::new(nowhere.clone(), n.to_string())))
            .await
            .expect("accepted");
    }
    settles_where(
        LIMIT,
        || std::future::ready(bus.stats()),
        |stats| stats.failed == 10_000 && stats.pending == 0,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_and_close_return_after_on_failure() {
    for close in [false, true] {
        let connection = connection(shared_url()).await;
        let told = Arc::new(AtomicU64::new(0));
        let bus = Bus::builder(connection)
            .deadline(Duration::from_millis(300))
            .on_failure({
                let told = told.clone();
                move |_| {
                    // sleep: a callback that takes its time
                    std::thread::sleep(Duration::from_millis(20));
                    told.fetch_add(1, Atomic::SeqCst);
                }
            });
        let bus = within(LIMIT, bus.open()).await.expect("open");
        let nowhere = unique_subject("nowhere");
        for n in 0..20 {
            within(LIMIT, bus.enqueue(Event::new(nowhere.clone(), n.to_string())))
                .await
                .expect("accepted");
        }
        let failed = if close {
            within(LIMIT, bus.close(LIMIT)).await.expect_err("failed").failed
        } else {
            within(LIMIT, bus.flush(LIMIT)).await.expect_err("failed").failed
        };
        assert_eq!((failed, told.load(Atomic::SeqCst)), (20, 20), "close: {close}");
    }
}

struct Counted(Arc<AtomicU64>, Vec<u8>);
impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Atomic::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pending_ack_keeps_no_payload() {
    let connection = connection(shared_url()).await;
    let (_, subject) = declared(&connection).await;
    let bus = within(LIMIT, Bus::open(connection)).await.expect("open");
    let alive = Arc::new(AtomicU64::new(0));
    let mut kept = Vec::new();
    for _ in 0..100 {
        alive.fetch_add(1, Atomic::SeqCst);
        let payload = Bytes::from_owner(Counted(alive.clone(), vec![b'x'; 100_000]));
        kept.push(
            within(LIMIT, bus.enqueue_pending(Event::new(subject.clone(), payload)))
                .await
                .expect("accepted"),
        );
    }
    within(LIMIT, bus.flush(LIMIT)).await.expect("acked");
    assert_eq!(bus.stats().pending_bytes, 0);
    // async-nats lets go of the last ones when it has written them.
    settles_where(
        LIMIT,
        || std::future::ready(alive.load(Atomic::SeqCst)),
        |alive| *alive == 0,
    )
    .await;
    drop(kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_subject_harms_no_other_event() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let connection = connection(&nats.url()).await;
    stream(&connection, StreamSpec::new("S", ["s.>"])).await;
    let bus = Bus::builder(connection.clone())
        .dedup(Dedup::Off)
        .deadline(Duration::from_secs(4));
    let bus = within(LIMIT, bus.open()).await.expect("open");
    let long = Event::new(format!("s.{}", "x".repeat(5000)), "long");
    let events = (0..50).map(|n| Event::new("s.y", n.to_string())).chain([long]);
    let report = within(LIMIT, bus.publish_batch(events)).await;
    let failed: Vec<_> = report.failed().map(|(n, error)| (n, error.kind())).collect();
    assert_eq!(failed, [(50, PublishErrorKind::Invalid)]);
    assert_eq!(connection.state().borrow().epoch, 1, "nobody closes the connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_a_stream_with_an_ampersand_are_read() {
    let connection = connection(shared_url()).await;
    let subject = unique_subject("rnd");
    let name = unique_name("R&D");
    stream(
        &connection,
        StreamSpec::new(&name, [subject.clone()])
            .max_messages(1)
            .discard(Discard::New),
    )
    .await;
    let bus = Bus::builder(connection).deadline(Duration::from_secs(7));
    let bus = within(LIMIT, bus.open()).await.expect("open");
    for is_duplicate in [false, true] {
        let ack = within(LIMIT, bus.publish(Event::new(subject.clone(), "1").message_id("a"))).await;
        let ack = ack.expect("acked");
        assert_eq!((&*ack.stream, ack.is_duplicate), (&*name, is_duplicate));
    }
    let error = within(LIMIT, bus.publish(Event::new(subject.clone(), "2")))
        .await
        .expect_err("full");
    assert_eq!(error.kind(), PublishErrorKind::StreamFull);
}

/// A stream whose acks take as long as its disk does.
async fn slow_server(more: &str) -> (tempfile::TempDir, NatsServer) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = format!(
        "jetstream {{ store_dir: \"{}\", sync_interval: always }}\n{more}",
        dir.path().display()
    );
    let nats = NatsServer::builder().config(config).start().await;
    (dir, nats)
}

/// A service that listens on the subject too, and answers with an error in JSON of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_another_service_is_no_refusal() {
    let (_dir, nats) = slow_server("").await;
    let connection = connection(&nats.url()).await;
    stream(&connection, StreamSpec::new("S", ["s.>"])).await;
    let other = integration::connection(&nats.url()).await;
    let service = other.nats().clone();
    let mut requests = within(LIMIT, service.subscribe("s.x")).await.expect("subscribed");
    within(LIMIT, service.flush()).await.expect("flushed");
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply {
                let _ = service
                    .publish(reply, r#"{"error":{"message":"unknown order"}}"#.into())
                    .await;
            }
        }
    });
    let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
    let events = (0..500_u64).map(|n| Event::new("s.x", n.to_string()));
    let report = within(LIMIT, bus.publish_batch(events)).await;
    assert!(report.is_complete(), "{:?}", report.failed().next());
    assert_eq!(numbers(&connection, "S").await.len(), 500);
}

/// Publishing is forbidden while events are under way that the server has taken already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_permitted_and_certainly_not_stored_is_not_stored() {
    let users = |permissions: &str| {
        format!(
            "authorization {{ users = [{{user: all, password: p}}, {{user: limited, password: p, permissions: {{publish: {permissions}}}}}] }}"
        )
    };
    let dir = tempfile::tempdir().expect("a directory");
    let users = |permissions: &str| {
        format!(
            "jetstream {{ store_dir: \"{}\", sync_interval: always }}\n{}",
            dir.path().display(),
            users(permissions)
        )
    };
    let mut nats = NatsServer::builder().config(users(r#"[">"]"#)).start().await;
    let config = |user: &str| ConnectConfig::new(nats.url()).credentials(Credentials::user_password(user, "p"));
    let limited = within(LIMIT, Connection::connect(config("limited")))
        .await
        .expect("connected");
    let all = within(LIMIT, Connection::connect(config("all")))
        .await
        .expect("connected");
    stream(&all, StreamSpec::new("S", ["s.>"])).await;
    let claimed = Arc::new(parking(Vec::new()));
    let bus = Bus::builder(limited).window(20_000).on_failure({
        let claimed = claimed.clone();
        move |error| {
            if !error.may_be_stored() {
                claimed
                    .lock()
                    .unwrap()
                    .push(String::from_utf8(error.event().payload().to_vec()).unwrap());
            }
        }
    });
    let bus = within(LIMIT, bus.open()).await.expect("open");
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move {
            for n in 0..400_000_u64 {
                if bus.stats().failed > 0 {
                    break;
                }
                let _ = bus.enqueue(Event::new("s.x", n.to_string())).await;
            }
        }
    });
    settles_where(LIMIT, || std::future::ready(bus.stats().acked), |acked| *acked > 300).await;
    within(LIMIT, nats.reload(users(r#"{deny: "s.>"}"#))).await;
    within(LIMIT, publishing).await.expect("no panic");
    let _ = within(LIMIT, bus.flush(Duration::from_secs(5))).await;
    let stored: std::collections::HashSet<_> = messages(&all, "S").await.into_iter().map(|m| m.payload).collect();
    let claimed = claimed.lock().unwrap().clone();
    let lies = claimed.iter().filter(|n| stored.contains(*n)).count();
    assert_eq!(lies, 0, "of {} that are certainly not stored", claimed.len());
}

fn parking<T>(value: T) -> std::sync::Mutex<T> {
    std::sync::Mutex::new(value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_does_not_wait_while_there_is_room() {
    let connection = connection(shared_url()).await;
    let (_, subject) = declared(&connection).await;
    let deaf = unique_subject("deaf");
    let _listens = within(LIMIT, connection.nats().subscribe(deaf.clone()))
        .await
        .expect("subscribed");
    let bus = Bus::builder(connection).window(100).deadline(Duration::from_secs(4));
    let bus = within(LIMIT, bus.open()).await.expect("open");
    for n in 0..90 {
        bus.try_enqueue(Event::new(deaf.clone(), n.to_string())).expect("room");
    }
    let began = Instant::now();
    for n in 0..50 {
        within(LIMIT, bus.enqueue(Event::new(subject.clone(), n.to_string())))
            .await
            .expect("accepted");
    }
    let waited = began.elapsed();
    assert!(
        waited < Duration::from_secs(1),
        "waited {waited:?} with 10 of 100 places free"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_is_off_is_no_difference() {
    let connection = connection(shared_url()).await;
    let topology = Topology::new(connection);
    let spec = StreamSpec::new(unique_name("ZERO"), [unique_subject("zero")])
        .max_messages(0)
        .max_bytes(0);
    within(LIMIT, topology.ensure(&spec)).await.expect("made");
    within(LIMIT, topology.ensure(&spec)).await.expect("the same");
}

#[test]
fn a_bus_whose_runtime_is_gone_hands_back() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let told = Arc::new(AtomicU64::new(0));
    let (bus, pending) = runtime.block_on(async {
        let connection = connection(shared_url()).await;
        let bus = Bus::builder(connection).on_failure({
            let told = told.clone();
            move |_| {
                told.fetch_add(1, Atomic::SeqCst);
            }
        });
        let bus = bus.open().await.unwrap();
        let pending = bus
            .enqueue_pending(Event::new(unique_subject("nowhere"), "1"))
            .await
            .unwrap();
        (bus, pending)
    });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    other.block_on(async {
        let error = within(LIMIT, pending).await.expect_err("gone");
        assert_eq!(error.kind(), PublishErrorKind::Closed);
        let error = within(LIMIT, bus.publish(Event::new("a", "1")))
            .await
            .expect_err("gone");
        assert_eq!(error.kind(), PublishErrorKind::Closed);
        let _ = within(LIMIT, bus.close(LIMIT)).await;
    });
    assert_eq!(told.load(Atomic::SeqCst), 1);
}

thread_local! {
    static IN_CALL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[test]
fn what_is_not_percent_encoded_stays() {
    use natstream::eventbus::envelope::Envelope;
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "up 50%+5"),
        ("ce-type", "t"),
    ] {
        headers.insert(name, value);
    }
    let read: Envelope<u8> = Envelope::read(b"7", Some(&headers)).expect("read");
    assert_eq!(read.attributes.source, "up 50%+5");
}

#[test]
fn data_is_optional() {
    use natstream::eventbus::envelope::Envelope;
    let bare = br#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
    let read = Envelope::<Option<u8>>::read(bare, None).expect("a CloudEvent without data is one");
    assert_eq!((read.data, &*read.attributes.id), (None, "1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_durations_work() {
    let connection = connection(shared_url()).await;
    let (name, subject) = declared(&connection).await;
    let max = Duration::MAX;
    let bus = Bus::builder(connection.clone())
        .deadline(max)
        .ack_timeout(max)
        .retry_pause(Duration::from_millis(1), max);
    let bus = within(LIMIT, bus.open()).await.expect("open");
    for n in 0..50_u64 {
        within(
            LIMIT,
            bus.enqueue(Event::new(subject.clone(), n.to_string()).deadline(max)),
        )
        .await
        .expect("accepted");
    }
    within(LIMIT, bus.flush(max)).await.expect("all");
    let nowhere = unique_subject("nowhere");
    within(LIMIT, bus.enqueue(Event::new(nowhere, "x")))
        .await
        .expect("accepted");
    // sleep: nothing tells that no more will come
    tokio::time::sleep(Duration::from_millis(300)).await;
    let error = within(LIMIT, bus.close(Duration::from_millis(10)))
        .await
        .expect_err("given up");
    assert_eq!(error.given_up.len(), 1);
    within(LIMIT, bus.close(max)).await.expect("closed");
    assert_eq!(numbers(&connection, &name).await.len(), 50);
}

/// Leaving the queue for room costs a look at all who wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_producers_that_wait_cost_no_more_each() {
    let connection = connection(shared_url()).await;
    let (_, subject) = declared(&connection).await;
    let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
    let mut each = Vec::new();
    for producers in [5_000_u32, 40_000] {
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..producers {
            let (bus, subject) = (bus.clone(), subject.clone());
            tasks.spawn(async move { bus.publish(Event::new(subject, n.to_string())).await.map(drop) });
        }
        within(LIMIT * 4, async {
            while let Some(done) = tasks.join_next().await {
                done.expect("no panic").expect("acked");
            }
        })
        .await;
        each.push(began.elapsed() / producers);
    }
    assert!(each[1] < each[0] * 3, "{each:?}");
}

/// A timeout that is waited for by a batch that a panic of `on_failure` meets: told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_on_failure_keeps_nobody_waiting() {
    let connection = connection(shared_url()).await;
    let bus = Bus::builder(connection)
        .deadline(Duration::from_millis(200))
        .on_failure(|_| panic!("careless"));
    let bus = within(LIMIT, bus.open()).await.expect("open");
    let nowhere = unique_subject("nowhere");
    let report = within(
        LIMIT,
        bus.publish_batch((0..20).map(|n| Event::new(nowhere.clone(), n.to_string()))),
    )
    .await;
    assert_eq!(report.failed().count(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_subject_starves_nobody() {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let connection = connection(&nats.url()).await;
    stream(&connection, StreamSpec::new("S", ["s.>"])).await;
    let bus = Bus::builder(connection.clone()).deadline(Duration::from_secs(5));
    let bus = within(LIMIT, bus.open()).await.expect("open");
    let long = Event::new(format!("s.{}", "x".repeat(5000)), "long");
    let events = std::iter::once(long).chain((0..100).map(|n| Event::new("s.y", n.to_string())));
    let report = within(LIMIT, bus.publish_batch(events)).await;
    let mut kinds = std::collections::BTreeMap::new();
    for (_, error) in report.failed() {
        *kinds
            .entry(format!(
                "{:?} may_be_stored={} attempts={}",
                error.kind(),
                error.may_be_stored(),
                error.attempts()
            ))
            .or_insert(0) += 1;
    }
    assert_eq!(report.acked(), 100);
}
