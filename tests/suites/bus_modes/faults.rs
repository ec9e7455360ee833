//! Servers that are killed, connections that are cut, leaders that change.

use std::collections::HashMap;

use integration::bus::{messages, stream};
use integration::{LIMIT, connection};
use natstream::eventbus::topology::{StreamSpec, Topology};
use natstream::eventbus::{BusStats, Dedup, Ordering};
use natstream::{Bus, ConnectConfig, Connection, Event, PublishError};
use testkit::{Cluster, NatsServer, Proxy, settles_where, within};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::LONG;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    OneByOne,
    Batch,
    WithoutIds,
    Strict,
}

impl Mode {
    /// So many that it takes some seconds.
    fn events(self) -> u64 {
        match self {
            Self::OneByOne => 6000,
            Self::Strict => 15_000,
            Self::Batch | Self::WithoutIds => 60_000,
        }
    }
}

struct Publishing {
    mode: Mode,
    events: u64,
    bus: Bus,
    failed: mpsc::UnboundedReceiver<PublishError>,
    task: JoinHandle<()>,
}

/// Publishes numbers to 20 subjects in the background.
async fn publish(connection: Connection, mode: Mode, events: u64) -> Publishing {
    let (failures, failed) = mpsc::unbounded_channel();
    let builder = Bus::builder(connection)
        // Without ids an answer that is lost with a leader is waited for until then.
        .deadline(if mode == Mode::WithoutIds { LIMIT } else { LONG })
        .on_failure(move |error| drop(failures.send(error)));
    let builder = match mode {
        Mode::WithoutIds => builder.dedup(Dedup::Off),
        Mode::Strict => builder.ordering(Ordering::Strict),
        Mode::OneByOne | Mode::Batch => builder,
    };
    let bus = within(LIMIT, builder.open()).await.expect("open");
    let publisher = bus.clone();
    let event = |n: u64| Event::new(format!("s.{}", n % 20), n.to_string());
    // What fails is told to `on_failure` in any mode.
    let task = tokio::spawn(async move {
        match mode {
            Mode::OneByOne => {
                for n in 0..events {
                    drop(publisher.publish(event(n)).await);
                }
            }
            Mode::Batch => {
                for first in (0..events).step_by(1000) {
                    let batch = first..events.min(first + 1000);
                    drop(publisher.publish_batch(batch.map(event)).await);
                }
            }
            Mode::WithoutIds | Mode::Strict => {
                for n in 0..events {
                    publisher.enqueue(event(n)).await.expect("accepted");
                }
            }
        }
    });
    Publishing {
        mode,
        events,
        bus,
        failed,
        task,
    }
}

impl Publishing {
    /// Waits until this part of ten is acked or has failed.
    async fn reached(&self, tenths: u64) {
        let stats = || std::future::ready(self.bus.stats());
        settles_where(LONG, stats, |stats: &BusStats| {
            assert_eq!(stats.accepted, stats.acked + stats.failed + stats.pending as u64);
            stats.acked + stats.failed >= self.events * tenths / 10
        })
        .await;
    }

    /// Each event is stored once, or was handed back with the truth.
    async fn check(mut self) {
        within(LONG, self.task).await.expect("no panic");
        // It fails when events have failed.
        let _ = within(LONG, self.bus.flush(LONG)).await;
        let stats = self.bus.stats();
        assert_eq!((stats.accepted, stats.pending), (self.events, 0));
        let mut failed = HashMap::new();
        while let Ok(error) = self.failed.try_recv() {
            let payload = String::from_utf8(error.event().payload().to_vec()).expect("text");
            assert!(
                failed.insert(payload, error.may_be_stored()).is_none(),
                "each failure once"
            );
        }
        assert!(
            failed.is_empty() || self.mode == Mode::WithoutIds,
            "{} have failed",
            failed.len()
        );
        let stored = messages(self.bus.connection(), "S").await;
        let mut copies: HashMap<&str, u64> = HashMap::new();
        for message in &stored {
            *copies.entry(&message.payload).or_default() += 1;
        }
        for n in 0..self.events {
            let payload = n.to_string();
            let copies = copies.get(&*payload).copied().unwrap_or(0);
            match failed.get(&payload) {
                None => assert_eq!(copies, 1, "{n} was acked"),
                Some(false) => assert_eq!(copies, 0, "{n} certainly was not stored"),
                Some(true) => assert!(copies <= 1, "{n} is stored {copies} times"),
            }
        }
        let numbers = |subject: Option<String>| -> Vec<u64> {
            let own = stored
                .iter()
                .filter(|message| subject.as_ref().is_none_or(|own| *own == message.subject));
            own.map(|message| message.payload.parse().expect("a number")).collect()
        };
        match self.mode {
            Mode::OneByOne => assert!(numbers(None).is_sorted(), "one behind the other"),
            Mode::Strict => {
                for lane in 0..20 {
                    let subject = format!("s.{lane}");
                    assert!(
                        numbers(Some(subject.clone())).is_sorted(),
                        "`{subject}` keeps its order"
                    );
                }
            }
            Mode::Batch | Mode::WithoutIds => {}
        }
    }
}

async fn killed(mode: Mode) {
    let mut nats = NatsServer::builder().jetstream(true).start().await;
    let connection = connection(&nats.url()).await;
    stream(&connection, StreamSpec::new("S", ["s.>"])).await;
    let publishing = publish(connection, mode, mode.events()).await;
    for part in [2, 4, 6] {
        publishing.reached(part).await;
        nats.kill();
        within(LIMIT, nats.restart()).await;
    }
    publishing.check().await;
}

async fn cut(mode: Mode) {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let proxy = Proxy::start(nats.url()).await;
    let connection = connection(&proxy.url()).await;
    stream(&connection, StreamSpec::new("S", ["s.>"])).await;
    let publishing = publish(connection, mode, mode.events()).await;
    for part in [2, 4, 6, 8] {
        publishing.reached(part).await;
        let before = proxy.accepted();
        proxy.cut();
        within(LIMIT, proxy.connected(before + 1)).await;
    }
    publishing.check().await;
}

async fn leaders(mode: Mode) {
    let mut cluster = within(LONG, Cluster::builder(3).jetstream(true).start()).await;
    let config = ConnectConfig::new(cluster.urls()).retain_servers_order();
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    let topology = Topology::new(connection.clone());
    stream(&connection, StreamSpec::new("S", ["s.>"]).replicas(3)).await;
    let publishing = publish(connection.clone(), mode, mode.events() / 3).await;
    publishing.reached(2).await;
    let step_down = connection.nats().request("$JS.API.STREAM.LEADER.STEPDOWN.S", "".into());
    within(LIMIT, step_down).await.expect("an answer");
    publishing.reached(4).await;
    let info = within(LONG, topology.info("S")).await.expect("info");
    let leader = info.leader.expect("a leader");
    let index: usize = leader.trim_start_matches('n').parse().expect("a node");
    cluster.node_mut(index).kill();
    publishing.reached(8).await;
    within(LONG, cluster.node_mut(index).restart()).await;
    publishing.check().await;
}

macro_rules! under_faults {
    ($($mode:ident: $killed:ident, $cut:ident, $leaders:ident;)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $killed() {
            killed(Mode::$mode).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $cut() {
            cut(Mode::$mode).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $leaders() {
            leaders(Mode::$mode).await;
        }
    )* };
}

under_faults! {
    OneByOne: one_by_one_killed, one_by_one_cut, one_by_one_leaders;
    Batch: batch_killed, batch_cut, batch_leaders;
    WithoutIds: without_ids_killed, without_ids_cut, without_ids_leaders;
    Strict: strict_killed, strict_cut, strict_leaders;
}
