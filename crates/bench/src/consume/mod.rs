//! Consuming from JetStream beside async-nats.

pub(crate) mod consumer;
mod table;

use anyhow::{Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, StorageType};
use clap::Args;
use futures_util::future::try_join_all;
use serde::Serialize;
use testkit::NatsServer;

use self::consumer::{Ours, Task, Way};
use crate::machine::Origin;
use crate::options::{Storage, positive};
use crate::process::{Each, Role, Usage, peak_memory};
use crate::report::Report;
use crate::role::Done;
use crate::rounds::rounds;

/// Consuming from JetStream beside async-nats: for_each beside messages(), fetch beside fetch(), with the same batches.
#[derive(Args, Debug, Serialize)]
pub(crate) struct Options {
    /// Messages of a round.
    #[arg(long, default_value_t = 200_000, value_parser = positive::<u64>)]
    messages: u64,
    /// Bytes of a message.
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// Rounds that count.
    #[arg(long, default_value_t = 5, value_parser = positive::<usize>)]
    rounds: usize,
    /// The prefetch of ours and the batch of async-nats.
    #[arg(long, value_delimiter = ',', default_value = "100,500", value_parser = positive::<usize>)]
    batches: Vec<usize>,
    /// Handlers, or acks that are waited for, at a time.
    #[arg(long, default_value_t = 16, value_parser = positive::<usize>)]
    concurrency: usize,
    /// Where the streams are [default: both].
    #[arg(long)]
    storage: Option<Storage>,
}

/// One way to consume, of one kind of stream, with one size of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    storage: Storage,
    batch: usize,
    way: Way,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    rate: f64,
    each: Each,
}

struct Run {
    nats: NatsServer,
    consumer: Role,
    admin: async_nats::jetstream::Context,
    consumers: u64,
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let about = "Consuming beside async-nats; each round has a new consumer of the same messages, all of which must be acked \
                 afterwards.";
    let mut report = Report::new("consume", about, options, Origin::now(Some(&nats.url())).await?);
    report.peers = vec![
        "natstream: confirms acks; of for_each, one and a half batches are under way at most, as with async-nats"
            .to_owned(),
        "async-nats: ack() is not confirmed, double_ack() is; up to one and a half batches are under way".to_owned(),
    ];
    let consumer = Role::start(&["consumer", &nats.url()]).await?;
    let client = async_nats::connect(nats.url()).await?;
    let mut run = Run {
        consumer,
        admin: async_nats::jetstream::new(client),
        nats,
        consumers: 0,
    };
    let storages = Storage::ALL
        .into_iter()
        .filter(|storage| options.storage.is_none_or(|only| only == *storage));
    let storages: Vec<Storage> = storages.collect();
    for storage in &storages {
        run.fill(*storage, options).await?;
    }
    let cases = cases(options, &storages);
    let measured = rounds(options.rounds, cases.len(), async |case| {
        run.measure(cases[case], options).await
    })
    .await?;
    report.tables = storages
        .iter()
        .map(|storage| table::compare(*storage, &cases, &measured))
        .collect();
    let mib = peak_memory(run.consumer.pid()?)? as f64 / f64::from(1 << 20);
    report.peers.push(format!(
        "peak memory of the consuming process, both together: {mib:.0} MiB"
    ));
    Ok(report)
}

/// Those that are compared with each other stand side by side, so that they take turns.
fn cases(options: &Options, storages: &[Storage]) -> Vec<Case> {
    let mut cases = Vec::new();
    for storage in storages {
        for batch in &options.batches {
            for way in Way::ALL {
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

fn stream_of(storage: Storage) -> &'static str {
    match storage {
        Storage::Memory => "BENCH_MEMORY",
        Storage::File => "BENCH_FILE",
    }
}

impl Run {
    /// Makes a stream with all messages, which every round reads anew.
    async fn fill(&self, storage: Storage, options: &Options) -> Result<()> {
        let config = Config {
            name: stream_of(storage).to_owned(),
            subjects: vec![stream_of(storage).to_ascii_lowercase()],
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
        let (stream, name) = (stream_of(storage).to_owned(), format!("c{}", self.consumers));
        let config = pull::Config {
            durable_name: Some(name.clone()),
            ack_policy: AckPolicy::Explicit,
            // Nobody is to wait for the acks of others.
            max_ack_pending: 100_000,
            ..pull::Config::default()
        };
        let stream_handle = self.admin.get_stream(&stream).await?;
        let mut made = stream_handle.create_consumer(config).await?;
        let before = Usage::of(&mut self.consumer, self.nats.pid()).await?;
        let task = Task::Consume {
            way,
            stream,
            consumer: name.clone(),
            batch,
            concurrency: options.concurrency,
            messages: options.messages,
        };
        let done: Done = self.consumer.ask(&task).await?;
        let after = Usage::of(&mut self.consumer, self.nats.pid()).await?;
        // Acks that nobody waits for are under way still.
        for look in 0.. {
            let info = made.info().await?;
            if info.ack_floor.stream_sequence == options.messages && info.num_ack_pending == 0 {
                break;
            }
            ensure!(look < 10_000, "acks are missing: {info:?}");
        }
        stream_handle.delete_consumer(&name).await?;
        Ok(Round {
            rate: done.rate(),
            each: after.each(before, done.items),
        })
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
