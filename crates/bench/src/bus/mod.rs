//! The event bus beside async-nats.

mod acknowledger;
pub(crate) mod publisher;
mod table;

use anyhow::{Result, bail};
use clap::Args;
use natstream::eventbus::topology::{self, StreamSpec, Topology};
use natstream::{ConnectConfig, Connection};
use serde::Serialize;
use testkit::NatsServer;

use self::publisher::{Publisher, Task};
use crate::machine::Origin;
use crate::options::{Storage, positive};
use crate::process::{Each, Role, Usage, peak_memory};
use crate::report::{Cell, Report, Table};
use crate::role::Done;
use crate::rounds::rounds;

/// Publishing to JetStream beside async-nats: with and without ids, in memory and on file, pipelined and one by one.
#[derive(Args, Debug, Serialize)]
pub(crate) struct Options {
    /// Events of a round.
    #[arg(long, default_value_t = 400_000, value_parser = positive::<u64>)]
    events: u64,
    /// Bytes of an event.
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 5, value_parser = positive::<usize>)]
    rounds: usize,
    /// Events that wait for their acks at a time.
    #[arg(long, value_delimiter = ',', default_value = "100,256,1000,4000", value_parser = positive::<usize>)]
    windows: Vec<usize>,
    /// Events of a round that are published one by one.
    #[arg(long, default_value_t = 10_000, value_parser = positive::<u64>)]
    one_by_one: u64,
    /// Where the streams are [default: both].
    #[arg(long)]
    storage: Option<Storage>,
    /// Leave out the table of the programs that the bus replaces, and windows up to 1,000,000 against an acknowledger in the
    /// same process.
    #[arg(long)]
    quick: bool,
}

/// That of a fast bus, unless it is set.
const FAST_WINDOW: usize = 4000;

/// One way to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    storage: Storage,
    publisher: Publisher,
    ids: bool,
    /// `None`: one by one.
    window: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    rate: f64,
    each: Each,
    /// Median µs, one by one.
    latency: Option<f64>,
}

struct Run {
    nats: NatsServer,
    publisher: Role,
    admin: async_nats::jetstream::Context,
    topology: Topology,
    streams: u64,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let about = "Publishing beside async-nats, which awaits each ack when its window is full, so that it notices failures as the \
                 bus does; with ids it has such of the same length. Each round has a new stream, which must have every event \
                 once afterwards.";
    let mut report = Report::new("bus", about, options, Origin::now(Some(&nats.url())).await?);
    report.peers = vec![
        "natstream: Bus with the window, the rest by default; FastBus with a window of 4000; AtomicBus; Outbox with the last window".to_owned(),
        "async-nats: send_publish, with as many acks in flight as the window; the rest by default".to_owned(),
    ];
    let publisher = Role::start(&["publisher", &nats.url()]).await?;
    let client = async_nats::connect(nats.url()).await?;
    let mut run = Run {
        publisher,
        admin: async_nats::jetstream::new(client),
        topology: Topology::new(Connection::connect(ConnectConfig::new(nats.url())).await?),
        nats,
        streams: 0,
    };
    let ways = ways(options);
    let measured = rounds(options.rounds, ways.len(), async |way| {
        run.measure(ways[way], options).await
    })
    .await?;
    report.tables = table::compare(&ways, &measured);
    if !options.quick {
        report.tables.push(run.seed(options.size).await?);
        report.tables.push(run.in_process(options).await?);
    }
    let mib = peak_memory(run.publisher.pid()?)? as f64 / f64::from(1 << 20);
    report.peers.push(format!(
        "peak memory of the publishing process, both together: {mib:.0} MiB"
    ));
    Ok(report)
}

/// Those that are compared with each other stand side by side, so that they take turns.
fn ways(options: &Options) -> Vec<Way> {
    let mut ways = Vec::new();
    for storage in Storage::ALL {
        if options.storage.is_some_and(|only| only != storage) {
            continue;
        }
        for ids in [false, true] {
            for window in options.windows.iter().copied().map(Some).chain([None]) {
                for publisher in [Publisher::Natstream, Publisher::AsyncNats] {
                    ways.push(Way {
                        storage,
                        publisher,
                        ids,
                        window,
                    });
                }
            }
            // What is kept on the disk first, beside a bus with the same window.
            if ids && let Some(window) = options.windows.last() {
                for publisher in [Publisher::Outbox, Publisher::OutboxPower] {
                    ways.push(Way {
                        storage,
                        publisher,
                        ids,
                        window: Some(*window),
                    });
                }
            }
            // Beside those of the same storage, in the same round.
            let batches = [
                (Publisher::Fast, FAST_WINDOW),
                (Publisher::Atomic, 100),
                (Publisher::Atomic, 1000),
            ];
            for (publisher, window) in batches {
                ways.push(Way {
                    storage,
                    publisher,
                    ids,
                    window: Some(window),
                });
            }
        }
    }
    ways
}

impl Run {
    async fn measure(&mut self, way: Way, options: &Options) -> Result<Round> {
        let Way {
            storage,
            publisher,
            ids,
            window,
        } = way;
        let size = options.size;
        let (name, subject) = self.stream(storage).await?;
        let before = Usage::of(&mut self.publisher, self.nats.pid()).await?;
        let (done, latency): (Done, Option<f64>) = match window {
            Some(window) => {
                // Each waits for the disk.
                let most = if publisher == Publisher::OutboxPower {
                    10_000
                } else {
                    u64::MAX
                };
                let events = options.events.min(most);
                let stream = name.clone();
                let task = Task::Window {
                    publisher,
                    ids,
                    window,
                    events,
                    size,
                    stream,
                    subject,
                };
                (self.publisher.ask(&task).await?, None)
            }
            None => {
                let events = options.one_by_one;
                let task = Task::OneByOne {
                    publisher,
                    ids,
                    events,
                    size,
                    subject,
                };
                let (done, latency) = self.publisher.ask::<(Done, f64)>(&task).await?;
                (done, Some(latency))
            }
        };
        let after = Usage::of(&mut self.publisher, self.nats.pid()).await?;
        let stored = self.admin.get_stream(&name).await?.cached_info().state.messages;
        if stored != done.items {
            bail!("the stream has {stored} of {} events", done.items);
        }
        self.admin.delete_stream(&name).await?;
        Ok(Round {
            rate: done.rate(),
            each: after.each(before, done.items),
            latency,
        })
    }

    /// A new stream: its name, and the subject that it takes.
    async fn stream(&mut self, storage: Storage) -> Result<(String, String)> {
        self.streams += 1;
        let name = format!("BENCH{}", self.streams);
        let subject = format!("bench.{}", self.streams);
        let storage = match storage {
            Storage::Memory => topology::Storage::Memory,
            Storage::File => topology::Storage::File,
        };
        let spec = StreamSpec::new(&name, [&subject])
            .storage(storage)
            .allow_batched(true)
            .allow_atomic(true);
        self.topology.ensure(&spec).await?;
        Ok((name, subject))
    }

    /// The table of the programs that the bus replaces: so many events, one by one and pipelined.
    async fn seed(&mut self, size: usize) -> Result<Table> {
        let columns = [("events", 0), ("one by one ms", 0), ("pipelined ms", 1), ("times", 1)];
        let mut table = Table::new("As those before measured it, with ids, on file", columns);
        for events in [100, 1000, 10_000, 100_000] {
            let publisher = Publisher::Natstream;
            let (_, subject) = self.stream(Storage::File).await?;
            let task = Task::OneByOne {
                publisher,
                ids: true,
                events,
                size,
                subject,
            };
            let (one_by_one, _): (Done, f64) = self.publisher.ask(&task).await?;
            let (stream, subject) = self.stream(Storage::File).await?;
            let task = Task::Window {
                publisher,
                ids: true,
                window: 1000,
                events,
                size,
                stream,
                subject,
            };
            let pipelined: Done = self.publisher.ask(&task).await?;
            table.row([
                Cell::from(events),
                (one_by_one.seconds * 1e3).into(),
                (pipelined.seconds * 1e3).into(),
                (one_by_one.seconds / pipelined.seconds).into(),
            ]);
        }
        Ok(table)
    }

    /// A bus alone, acked in its own process.
    async fn in_process(&mut self, options: &Options) -> Result<Table> {
        let columns = [("window", 0), ("k events/s", 0), ("MiB grown", 1)];
        let mut table = Table::new("Acked in the same process, without nats-server", columns);
        for window in [1, 10, 100, 1000, 10_000, 100_000, 1_000_000] {
            let events = if window == 1 {
                20_000
            } else {
                options.events.max(2 * window as u64)
            };
            let size = options.size;
            let (done, grown): (Done, u64) = self.publisher.ask(&Task::InProcess { window, events, size }).await?;
            let mib = grown as f64 / f64::from(1 << 20);
            table.row([Cell::from(window), (done.rate() / 1e3).into(), mib.into()]);
        }
        Ok(table)
    }
}
