//! Consuming from JetStream beside async-nats.

pub(crate) mod consumer;
mod table;

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, StorageType};
use futures_util::future::try_join_all;
use serde::Serialize;
use testkit::NatsServer;

use self::consumer::{Ours, Task, Way};
use crate::process::{Role, cpu_seconds, peak_memory};
use crate::report::Spread;
use crate::task::Done;

/// What a run measures.
#[derive(Debug)]
pub(crate) struct Options {
    messages: u64,
    size: usize,
    rounds: usize,
    batches: Vec<usize>,
    concurrency: usize,
    storages: Vec<Storage>,
    /// Only this way, to look into it.
    only: Option<Way>,
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
            messages: 200_000,
            size: 128,
            rounds: 5,
            batches: vec![100, 500],
            concurrency: 16,
            storages: vec![Storage::Memory, Storage::File],
            only: None,
            json: false,
        };
        while let Some(word) = words.next() {
            if word == "--json" {
                options.json = true;
                continue;
            }
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            match word {
                "--messages" => options.messages = value.parse()?,
                "--size" => options.size = value.parse()?,
                "--rounds" => options.rounds = value.parse()?,
                "--batches" => options.batches = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--concurrency" => options.concurrency = value.parse()?,
                "--only" => options.only = Some(way(value)?),
                "--storage" if value == "memory" => options.storages = vec![Storage::Memory],
                "--storage" if value == "file" => options.storages = vec![Storage::File],
                other => bail!("unknown option `{other} {value}`"),
            }
        }
        if options.rounds == 0 || options.messages == 0 || options.concurrency == 0 || options.batches.contains(&0) {
            bail!("every number is at least 1");
        }
        Ok(options)
    }
}

/// One way to consume, of one kind of stream, with one size of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Case {
    storage: Storage,
    batch: usize,
    way: Way,
}

/// The rounds of one case.
#[derive(Debug, Serialize)]
struct Figures {
    case: Case,
    messages_per_second: Spread,
    /// Processor time a message, in nanoseconds.
    consumer_cpu_ns: Spread,
    server_cpu_ns: Spread,
    /// Of the consumer, a message.
    allocations: Spread,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    rate: f64,
    consumer_cpu_ns: f64,
    server_cpu_ns: f64,
    allocations: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    messages: u64,
    size: usize,
    rounds: usize,
    concurrency: usize,
    nats_server: String,
    figures: Vec<Figures>,
    consumer_peak_bytes: u64,
}

struct Run {
    nats: NatsServer,
    consumer: Role,
    admin: async_nats::jetstream::Context,
    consumers: u64,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let consumer = Role::start("consumer", &nats.url()).await?;
    let client = async_nats::connect(nats.url()).await?;
    let mut run = Run {
        consumer,
        admin: async_nats::jetstream::new(client.clone()),
        nats,
        consumers: 0,
    };
    for storage in &options.storages {
        run.fill(*storage, &options).await?;
    }
    let cases = cases(&options);
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); cases.len()];
    // The first round warms up and does not count.
    for round in 0..=options.rounds {
        for (case, rounds) in cases.iter().zip(&mut rounds) {
            let measured = run.measure(*case, &options).await?;
            if round > 0 {
                rounds.push(measured);
            }
        }
    }
    let report = Report {
        messages: options.messages,
        size: options.size,
        rounds: options.rounds,
        concurrency: options.concurrency,
        nats_server: client.server_info().version,
        figures: cases
            .iter()
            .zip(&rounds)
            .map(|(case, rounds)| figures(*case, rounds))
            .collect(),
        consumer_peak_bytes: peak_memory(run.consumer.pid()?)?,
    };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        table::print(&report);
    }
    Ok(())
}

/// Those that are compared with each other stand side by side, so that they take turns.
/// What `--only` names.
fn way(name: &str) -> Result<Way> {
    match name {
        "for-each" => Ok(Way::Natstream(Ours::ForEach)),
        "our-fetch" => Ok(Way::Natstream(Ours::Fetch)),
        "messages" => Ok(Way::Messages),
        "fetch" => Ok(Way::Fetch),
        _ => bail!("`--only {name}`: there are for-each, our-fetch, messages and fetch"),
    }
}

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    for storage in &options.storages {
        for batch in &options.batches {
            for way in Way::ALL
                .into_iter()
                .filter(|way| options.only.is_none_or(|only| only == *way))
            {
                cases.push(Case {
                    storage: *storage,
                    batch: *batch,
                    way,
                });
            }
        }
    }
    cases
}

impl Storage {
    fn stream(self) -> &'static str {
        match self {
            Self::Memory => "BENCH_MEMORY",
            Self::File => "BENCH_FILE",
        }
    }
}

impl Run {
    /// Makes a stream with all messages, which every round reads anew.
    async fn fill(&self, storage: Storage, options: &Options) -> Result<()> {
        let config = Config {
            name: storage.stream().to_owned(),
            subjects: vec![storage.stream().to_ascii_lowercase()],
            storage: match storage {
                Storage::Memory => StorageType::Memory,
                Storage::File => StorageType::File,
            },
            ..Config::default()
        };
        let subject = config.subjects[0].clone();
        self.admin.create_stream(config).await?;
        let payload = bytes::Bytes::from(vec![b'.'; options.size]);
        let mut left = options.messages;
        while left > 0 {
            let count = left.min(1000);
            let publish = async || -> Result<()> {
                let ack = self.admin.publish(subject.clone(), payload.clone()).await?;
                ack.await?;
                Ok(())
            };
            try_join_all((0..count).map(|_| publish())).await?;
            left -= count;
        }
        Ok(())
    }

    async fn measure(&mut self, case: Case, options: &Options) -> Result<Round> {
        let Case { storage, batch, way } = case;
        self.consumers += 1;
        let (stream, name) = (storage.stream().to_owned(), format!("c{}", self.consumers));
        let config = pull::Config {
            durable_name: Some(name.clone()),
            ack_policy: AckPolicy::Explicit,
            // Nobody is to wait for the acks of others.
            max_ack_pending: 100_000,
            ..pull::Config::default()
        };
        let stream_handle = self.admin.get_stream(&stream).await?;
        let mut made = stream_handle.create_consumer(config).await?;
        let before = (self.cpu()?, self.allocations().await?);
        let task = Task::Consume {
            way,
            stream,
            consumer: name.clone(),
            batch,
            concurrency: options.concurrency,
            messages: options.messages,
        };
        let done: Done = self.consumer.ask(&task).await?;
        let after = (self.cpu()?, self.allocations().await?);
        // Acks that nobody waits for are under way still.
        for look in 0.. {
            let info = made.info().await?;
            if info.ack_floor.stream_sequence == options.messages && info.num_ack_pending == 0 {
                break;
            }
            ensure!(look < 10_000, "acks are missing: {info:?}");
        }
        stream_handle.delete_consumer(&name).await?;
        let each = |seconds: f64| seconds * 1e9 / done.items as f64;
        Ok(Round {
            rate: done.items as f64 / done.seconds,
            consumer_cpu_ns: each(after.0.0 - before.0.0),
            server_cpu_ns: each(after.0.1 - before.0.1),
            allocations: (after.1 - before.1) as f64 / done.items as f64,
        })
    }

    fn cpu(&self) -> Result<(f64, f64)> {
        Ok((cpu_seconds(self.consumer.pid()?)?, cpu_seconds(self.nats.pid())?))
    }

    async fn allocations(&mut self) -> Result<u64> {
        self.consumer.ask(&Task::Allocations).await
    }
}

fn figures(case: Case, rounds: &[Round]) -> Figures {
    let spread = |figure: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(figure));
    Figures {
        case,
        messages_per_second: spread(&|round| round.rate),
        consumer_cpu_ns: spread(&|round| round.consumer_cpu_ns),
        server_cpu_ns: spread(&|round| round.server_cpu_ns),
        allocations: spread(&|round| round.allocations),
    }
}

impl Way {
    /// Those that are measured, ours beside what they are compared with.
    const ALL: [Self; 6] = [
        Self::Natstream(Ours::ForEach),
        Self::Messages,
        Self::MessagesConfirmed,
        Self::Natstream(Ours::Fetch),
        Self::Fetch,
        Self::FetchConfirmed,
    ];
}
