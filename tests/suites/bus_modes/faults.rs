//! Servers that are killed, connections that are cut, leaders that change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use integration::bus::{messages, stream};
use integration::{LIMIT, connection, leaders};
use natstream::eventbus::topology::StreamSpec;
use natstream::eventbus::{BusStats, Dedup, Ordering};
use natstream::{Bus, ConnectConfig, Connection, Event, PublishError};
use testkit::{Cluster, NatsServer, Proxy, settles_where, within};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::LONG;

/// An answer that was lost with a leader need not be waited for.
const ANSWER: Duration = Duration::from_secs(1);

/// More events than are ever published between two faults.
const RELEASED: usize = 1 << 20;

/// Without ids an answer that is lost with a leader is waited for until the deadline, and no longer.
const WITHOUT_IDS: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    OneByOne,
    Batch,
    WithoutIds,
    Strict,
}

impl Mode {
    const ALL: [Self; 4] = [Self::OneByOne, Self::Batch, Self::WithoutIds, Self::Strict];

    /// So many are settled before a fault; others are under way then.
    fn events(self) -> u64 {
        match self {
            Self::OneByOne => 150,
            Self::Strict => 700,
            Self::Batch | Self::WithoutIds => 1500,
        }
    }

    /// Its stream, when several share a cluster.
    fn stream(self) -> &'static str {
        match self {
            Self::OneByOne => "ONE_BY_ONE",
            Self::Batch => "BATCH",
            Self::WithoutIds => "WITHOUT_IDS",
            Self::Strict => "STRICT",
        }
    }
}

struct Publishing {
    mode: Mode,
    /// How many events may be published; closed when that were all.
    released: Arc<Semaphore>,
    bus: Bus,
    failed: mpsc::UnboundedReceiver<PublishError>,
    /// How many there were.
    task: JoinHandle<u64>,
}

/// Publishes numbers in the background, to 20 subjects of the mode's stream, as many as are released.
async fn publish(connection: &Connection, mode: Mode) -> Publishing {
    let (failures, failed) = mpsc::unbounded_channel();
    let builder = Bus::builder(connection.clone())
        .deadline(if mode == Mode::WithoutIds { WITHOUT_IDS } else { LONG })
        .ack_timeout(ANSWER)
        .on_failure(move |error| drop(failures.send(error)));
    let builder = match mode {
        Mode::WithoutIds => builder.dedup(Dedup::Off),
        Mode::Strict => builder.ordering(Ordering::Strict),
        Mode::OneByOne | Mode::Batch => builder,
    };
    let bus = within(LIMIT, builder.open()).await.expect("open");
    let released = Arc::new(Semaphore::new(0));
    let (publisher, permits) = (bus.clone(), released.clone());
    // What fails is told to `on_failure` in any mode.
    let task = tokio::spawn(async move {
        let at_a_time = if mode == Mode::Batch { 300 } else { 1 };
        let event = |n: u64| Event::new(format!("{}.{}", mode.stream(), n % 20), n.to_string());
        let mut n = 0;
        while let Ok(permit) = permits.acquire_many(at_a_time).await {
            permit.forget();
            let next = n..n + u64::from(at_a_time);
            n = next.end;
            match mode {
                Mode::OneByOne => drop(publisher.publish(event(next.start)).await),
                Mode::Batch => drop(publisher.publish_batch(next.map(event)).await),
                Mode::WithoutIds | Mode::Strict => publisher.enqueue(event(next.start)).await.expect("accepted"),
            }
        }
        n
    });
    Publishing {
        mode,
        released,
        bus,
        failed,
        task,
    }
}

impl Publishing {
    /// Goes on until it is told to [pause](Self::pause); it is in the middle of that when this returns.
    async fn goes_on(&self) {
        let BusStats { acked, failed, .. } = self.bus.stats();
        self.released.add_permits(RELEASED);
        let more = acked + failed + self.mode.events();
        let stats = || std::future::ready(self.bus.stats());
        settles_where(LONG, stats, |stats: &BusStats| {
            assert_eq!(stats.accepted, stats.acked + stats.failed + stats.pending as u64);
            stats.acked + stats.failed >= more
        })
        .await;
    }

    /// No more is published, so that no more has to be looked at.
    fn pause(&self) {
        self.released.forget_permits(RELEASED);
    }

    /// Waits until all that was published is acked or has failed.
    async fn ends(&mut self) -> u64 {
        self.released.close();
        let events = within(LONG, &mut self.task).await.expect("no panic");
        // It fails when events have failed.
        let _ = within(LONG, self.bus.flush(LONG)).await;
        events
    }

    /// Each of so many events is stored once, or was handed back with the truth.
    async fn check(mut self, events: u64) {
        let mode = self.mode;
        let stats = self.bus.stats();
        assert_eq!((stats.accepted, stats.pending), (events, 0), "{mode:?}");
        let mut failed = HashMap::new();
        while let Ok(error) = self.failed.try_recv() {
            let payload = String::from_utf8(error.event().payload().to_vec()).expect("text");
            let told = failed.insert(payload, error.may_be_stored());
            assert!(told.is_none(), "{mode:?}: each failure once");
        }
        assert!(
            failed.is_empty() || mode == Mode::WithoutIds,
            "{mode:?}: {} have failed",
            failed.len()
        );
        let stored = messages(self.bus.connection(), mode.stream()).await;
        let mut copies: HashMap<&str, u64> = HashMap::new();
        for message in &stored {
            *copies.entry(&message.payload).or_default() += 1;
        }
        for n in 0..events {
            let payload = n.to_string();
            let copies = copies.get(&*payload).copied().unwrap_or(0);
            match failed.get(&payload) {
                None => assert_eq!(copies, 1, "{mode:?}: {n} was acked"),
                Some(false) => assert_eq!(copies, 0, "{mode:?}: {n} certainly was not stored"),
                Some(true) => assert!(copies <= 1, "{mode:?}: {n} is stored {copies} times"),
            }
        }
        let numbers = |subject: Option<String>| -> Vec<u64> {
            let own = stored
                .iter()
                .filter(|message| subject.as_ref().is_none_or(|own| *own == message.subject));
            own.map(|message| message.payload.parse().expect("a number")).collect()
        };
        match mode {
            Mode::OneByOne => assert!(numbers(None).is_sorted(), "one behind the other"),
            Mode::Strict => {
                for lane in 0..20 {
                    let subject = format!("{}.{lane}", mode.stream());
                    let numbers = numbers(Some(subject.clone()));
                    assert!(numbers.is_sorted(), "`{subject}` keeps its order");
                }
            }
            Mode::Batch | Mode::WithoutIds => {}
        }
    }
}

fn spec(mode: Mode) -> StreamSpec {
    StreamSpec::new(mode.stream(), [format!("{}.>", mode.stream())])
}

async fn killed(mode: Mode) {
    let mut nats = NatsServer::builder().jetstream(true).start().await;
    let connection = connection(&nats.url()).await;
    stream(&connection, spec(mode)).await;
    let mut publishing = publish(&connection, mode).await;
    for _ in 0..3 {
        publishing.goes_on().await;
        nats.kill();
        publishing.pause();
        within(LIMIT, nats.restart()).await;
    }
    let events = publishing.ends().await;
    publishing.check(events).await;
}

async fn cut(mode: Mode) {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let proxy = Proxy::start(nats.url()).await;
    let connection = connection(&proxy.url()).await;
    stream(&connection, spec(mode)).await;
    let mut publishing = publish(&connection, mode).await;
    for _ in 0..4 {
        publishing.goes_on().await;
        let before = proxy.accepted();
        proxy.cut();
        publishing.pause();
        within(LIMIT, proxy.connected(before + 1)).await;
    }
    let events = publishing.ends().await;
    publishing.check(events).await;
}

/// All modes in one cluster: their leaders step down, and then the node dies that leads all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mode_outlives_its_leaders() {
    let mut cluster = within(LONG, Cluster::builder(3).jetstream(true).start()).await;
    let config = ConnectConfig::new(cluster.urls()).retain_servers_order();
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    let mut all = Vec::new();
    for mode in Mode::ALL {
        stream(&connection, spec(mode).replicas(3)).await;
        all.push(publish(&connection, mode).await);
    }
    let streams = Mode::ALL.map(Mode::stream);
    join_all(all.iter().map(Publishing::goes_on)).await;
    leaders::step_down(&connection, &streams).await;
    all.iter().for_each(Publishing::pause);
    leaders::gather(&connection, &streams).await;
    join_all(all.iter().map(Publishing::goes_on)).await;
    let node = leaders::kill_leader(&mut cluster, &connection, &streams).await;
    all.iter().for_each(Publishing::pause);
    within(LONG, cluster.node_mut(node).restart()).await;
    // All streams have leaders again then, and answer those who read them.
    let events = join_all(all.iter_mut().map(Publishing::ends)).await;
    let checks = all
        .into_iter()
        .zip(events)
        .map(|(publishing, events)| publishing.check(events));
    join_all(checks).await;
}

macro_rules! under_faults {
    ($($mode:ident: $killed:ident, $cut:ident;)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $killed() {
            killed(Mode::$mode).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $cut() {
            cut(Mode::$mode).await;
        }
    )* };
}

under_faults! {
    OneByOne: one_by_one_killed, one_by_one_cut;
    Batch: batch_killed, batch_cut;
    WithoutIds: without_ids_killed, without_ids_cut;
    Strict: strict_killed, strict_cut;
}
