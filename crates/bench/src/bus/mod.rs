//! The event bus beside async-nats.

mod acknowledger;
pub(crate) mod publisher;
mod table;

use anyhow::{Context as _, Result, bail};
use natstream::eventbus::topology::{self, StreamSpec, Topology};
use natstream::{ConnectConfig, Connection};
use serde::Serialize;
use testkit::NatsServer;

use self::publisher::{Publisher, Task};
use crate::process::{Role, cpu_seconds, peak_memory};
use crate::report::Spread;
use crate::task::{Done, Latency};

/// What a run measures.
#[derive(Debug)]
pub(crate) struct Options {
    events: u64,
    size: usize,
    rounds: usize,
    windows: Vec<usize>,
    one_by_one: u64,
    storages: Vec<Storage>,
    /// Leaves out the tables of the seeds and the acknowledger.
    quick: bool,
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Storage {
    Memory,
    File,
}

impl Options {
    pub(crate) fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut options = Self {
            events: 400_000,
            size: 128,
            rounds: 5,
            windows: vec![100, 256, 1000, 4000],
            one_by_one: 10_000,
            storages: vec![Storage::Memory, Storage::File],
            quick: false,
            json: false,
        };
        while let Some(word) = words.next() {
            match word {
                "--json" => options.json = true,
                "--quick" => options.quick = true,
                _ => {
                    let value = words.next().with_context(|| format!("{word} needs a value"))?;
                    match word {
                        "--events" => options.events = value.parse()?,
                        "--size" => options.size = value.parse()?,
                        "--rounds" => options.rounds = value.parse()?,
                        "--windows" => options.windows = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                        "--one-by-one" => options.one_by_one = value.parse()?,
                        "--storage" if value == "memory" => options.storages = vec![Storage::Memory],
                        "--storage" if value == "file" => options.storages = vec![Storage::File],
                        other => bail!("unknown option `{other} {value}`"),
                    }
                }
            }
        }
        if options.rounds == 0 || options.events == 0 || options.one_by_one == 0 || options.windows.contains(&0) {
            bail!("every number is at least 1");
        }
        Ok(options)
    }
}

/// That of a fast bus, unless it is set.
const FAST_WINDOW: usize = 4000;

/// One way to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Way {
    storage: Storage,
    publisher: Publisher,
    ids: bool,
    /// `None`: one by one.
    window: Option<usize>,
}

/// The rounds of one way.
#[derive(Debug, Serialize)]
struct Figures {
    way: Way,
    events_per_second: Spread,
    /// Processor time an event, in nanoseconds.
    publisher_cpu_ns: Spread,
    server_cpu_ns: Spread,
    /// Of the publisher, an event.
    allocations: Spread,
    latency_p50_us: Option<Spread>,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    rate: f64,
    publisher_cpu_ns: f64,
    server_cpu_ns: f64,
    allocations: f64,
    latency: Option<Latency>,
}

#[derive(Debug, Serialize)]
struct Report {
    events: u64,
    size: usize,
    rounds: usize,
    one_by_one: u64,
    nats_server: String,
    figures: Vec<Figures>,
    /// Messages, milliseconds one by one, milliseconds pipelined: the table of the seed.
    seed: Vec<(u64, f64, f64)>,
    /// Window, events a second, bytes that the process grew by, against the acknowledger.
    in_process: Vec<(usize, f64, u64)>,
    publisher_peak_bytes: u64,
}

struct Run {
    nats: NatsServer,
    publisher: Role,
    admin: async_nats::jetstream::Context,
    topology: Topology,
    streams: u64,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let publisher = Role::start("publisher", &nats.url()).await?;
    let client = async_nats::connect(nats.url()).await?;
    let mut run = Run {
        publisher,
        admin: async_nats::jetstream::new(client.clone()),
        topology: Topology::new(Connection::connect(ConnectConfig::new(nats.url())).await?),
        nats,
        streams: 0,
    };
    let ways = ways(&options);
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); ways.len()];
    // The first round warms up and does not count.
    for round in 0..=options.rounds {
        for (way, rounds) in ways.iter().zip(&mut rounds) {
            let measured = run.measure(*way, &options).await?;
            if round > 0 {
                rounds.push(measured);
            }
        }
    }
    let (mut seed, mut in_process) = (Vec::new(), Vec::new());
    if !options.quick {
        seed = run.seed(options.size).await?;
        for window in [1, 10, 100, 1000, 10_000, 100_000, 1_000_000] {
            let events = if window == 1 {
                20_000
            } else {
                options.events.max(2 * window as u64)
            };
            let size = options.size;
            let (done, grown): (Done, u64) = run.publisher.ask(&Task::InProcess { window, events, size }).await?;
            in_process.push((window, done.items as f64 / done.seconds, grown));
        }
    }
    let report = Report {
        events: options.events,
        size: options.size,
        rounds: options.rounds,
        one_by_one: options.one_by_one,
        nats_server: client.server_info().version,
        figures: ways
            .iter()
            .zip(&rounds)
            .map(|(way, rounds)| figures(*way, rounds))
            .collect(),
        seed,
        in_process,
        publisher_peak_bytes: peak_memory(run.publisher.pid()?)?,
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        table::print(&report);
    }
    Ok(())
}

/// Those that are compared with each other stand side by side, so that they take turns.
fn ways(options: &Options) -> Vec<Way> {
    let mut ways = Vec::new();
    for storage in &options.storages {
        for ids in [false, true] {
            for window in options.windows.iter().copied().map(Some).chain([None]) {
                for publisher in [Publisher::Natstream, Publisher::AsyncNats] {
                    ways.push(Way {
                        storage: *storage,
                        publisher,
                        ids,
                        window,
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
                    storage: *storage,
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
        let before = (self.cpu()?, self.allocations().await?);
        let (done, latency): (Done, Option<Latency>) = match window {
            Some(window) => {
                let events = options.events;
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
                let (done, latency) = self.publisher.ask::<(Done, Latency)>(&task).await?;
                (done, Some(latency))
            }
        };
        let after = (self.cpu()?, self.allocations().await?);
        let stored = self.admin.get_stream(&name).await?.cached_info().state.messages;
        if stored != done.items {
            bail!("the stream has {stored} of {} events", done.items);
        }
        self.admin.delete_stream(&name).await?;
        let events = done.items as f64;
        Ok(Round {
            rate: events / done.seconds,
            publisher_cpu_ns: (after.0.0 - before.0.0) * 1e9 / events,
            server_cpu_ns: (after.0.1 - before.0.1) * 1e9 / events,
            allocations: (after.1 - before.1) as f64 / events,
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

    /// The seed's table: so many events, one by one and pipelined, in milliseconds.
    async fn seed(&mut self, size: usize) -> Result<Vec<(u64, f64, f64)>> {
        let mut table = Vec::new();
        for events in [100, 1000, 10_000, 100_000] {
            let publisher = Publisher::Natstream;
            let (_, subject) = self.stream(Storage::File).await?;
            let (one_by_one, _): (Done, Latency) = self
                .publisher
                .ask(&Task::OneByOne {
                    publisher,
                    ids: true,
                    events,
                    size,
                    subject,
                })
                .await?;
            let (stream, subject) = self.stream(Storage::File).await?;
            let pipelined: Done = self
                .publisher
                .ask(&Task::Window {
                    publisher,
                    ids: true,
                    window: 1000,
                    events,
                    size,
                    stream,
                    subject,
                })
                .await?;
            table.push((events, one_by_one.seconds * 1e3, pipelined.seconds * 1e3));
        }
        Ok(table)
    }

    fn cpu(&self) -> Result<(f64, f64)> {
        Ok((cpu_seconds(self.publisher.pid()?)?, cpu_seconds(self.nats.pid())?))
    }

    async fn allocations(&mut self) -> Result<u64> {
        self.publisher.ask(&Task::Allocations).await
    }
}

fn figures(way: Way, rounds: &[Round]) -> Figures {
    let spread = |figure: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(figure));
    Figures {
        way,
        events_per_second: spread(&|round| round.rate),
        publisher_cpu_ns: spread(&|round| round.publisher_cpu_ns),
        server_cpu_ns: spread(&|round| round.server_cpu_ns),
        allocations: spread(&|round| round.allocations),
        latency_p50_us: way
            .window
            .is_none()
            .then(|| spread(&|round| round.latency.map_or(0.0, |latency| latency.p50_us))),
    }
}
