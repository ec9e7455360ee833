//! `natstream bench consume`: handling the messages of a stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use natstream::Connection;
use natstream::eventbus::topology::ConsumerSpec;
use natstream::eventbus::{Consumer, HandlerError, Message};
use tokio::task::JoinSet;

use super::bounds;
use super::publish::{Load, Mode, publish};
use super::seen::Seen;
use super::spent::{Spent, Stopwatch};
use super::table::{self, Row};
use super::temporary::{StreamOptions, Temporary, with_stream};
use super::workers;
use crate::bus::print;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::size;

const EXAMPLES: &str = "\
Examples:
  natstream bench consume
  natstream bench consume --way batch --batch 1000 --storage file
  natstream bench consume --connections 4 --concurrency 64

The stream is filled first, which is not measured; each way has a consumer of its own. Streams and consumers are removed at the \
end, also after Ctrl-C. Every message must come and be acked, and nats-server must have the acks: otherwise it is an error (exit \
code 8). The processor time is that of this process, without nats-server's.";

/// Messages, unless it is set.
const COUNT: u64 = 200_000;

/// How long to wait for a message where there is none: others may give theirs back.
const WITHIN: Duration = Duration::from_secs(1);

/// Handle and ack the messages of a stream that is there for this only.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConsumeArgs {
    /// How to consume, a line for each.
    #[arg(
        long,
        value_enum,
        value_name = "WAY[,WAY]",
        value_delimiter = ',',
        default_value = "each,batch"
    )]
    way: Vec<Way>,
    /// Messages [default: 200000, or as many as the stream has taken within 10s].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    count: Option<u64>,
    /// Bytes of each message.
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = size::parse)]
    size: u64,
    /// Messages of a connection that are asked for at a time.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Handlers of a connection that run at a time, with --way each.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Connections that consume, at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    #[command(flatten)]
    stream: StreamOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    /// Batches, each acked as a whole.
    Batch,
    /// A handler for each message.
    Each,
}

/// What one way has made.
#[derive(Debug)]
struct Consumed {
    count: u64,
    spent: Spent,
    repeated: u64,
}

/// Runs the command.
pub(super) async fn run(mut context: Context, args: ConsumeArgs) -> Result<Exit, Failure> {
    // The first one keeps the stream, and fills it.
    let connections = workers::connect(&mut context, args.connections.saturating_add(1)).await?;
    let mut rows = Vec::new();
    let console = context.console;
    let work = async |stream: &Temporary| {
        let (count, time) = bounds(args.count, None, COUNT);
        let load = Load {
            mode: Mode::Async,
            count,
            time,
            size: args.size,
            window: 1000,
            ids: false,
        };
        let count = publish(&connections[..1], stream, load, console).await?.acked;
        for way in &args.way {
            let consumed = args.consume(&connections[1..], stream, *way, count, console).await?;
            rows.push(args.row(*way, &consumed));
        }
        Ok(())
    };
    let outcome = with_stream(&mut context, &connections[0], args.stream, false, work).await;
    workers::close(&mut context, &connections).await;
    print(&mut context, &table::text(&rows, console.is_json())).await?;
    outcome.map(|()| Exit::Complete)
}

impl ConsumeArgs {
    async fn consume(
        &self,
        connections: &[Connection],
        stream: &Temporary,
        way: Way,
        count: u64,
        console: Console,
    ) -> Result<Consumed, Failure> {
        // What is here of one connection, with the next batch on its way.
        let prefetch = u64::from(self.batch) + u64::from(self.batch) / 2;
        let spec = ConsumerSpec::new(&stream.name, way.name())
            // Nobody is to wait for the acks of others.
            .max_ack_pending((2 * prefetch * connections.len() as u64).max(1000));
        let mut consumers = Vec::with_capacity(connections.len());
        for (connection, share) in connections.iter().zip(workers::shares(count, connections.len())) {
            let builder = Consumer::builder(connection.clone(), spec.clone())
                .concurrency(self.concurrency.into())
                .prefetch(size::to_usize(prefetch).max(self.concurrency.into()));
            // A drain would wait for requests that nothing can answer any more.
            let builder = match way {
                Way::Each => builder.limit(size::to_usize(share)),
                Way::Batch => builder,
            };
            consumers.push(builder.open().await?);
        }
        let seen = Arc::new(Seen::new(count));
        let watch = Stopwatch::start();
        let mut tasks = JoinSet::new();
        for consumer in &consumers {
            let (consumer, seen) = (consumer.clone(), seen.clone());
            let batch = size::to_usize(self.batch.into());
            tasks.spawn(async move {
                match way {
                    Way::Batch => batches(consumer, &seen, batch).await,
                    Way::Each => each(consumer, seen).await,
                }
            });
        }
        workers::all(tasks, console, seen.distinct(), count, "messages were handled").await?;
        let spent = watch.read();
        check(&consumers[0], &seen, count).await?;
        Ok(Consumed {
            count,
            spent,
            repeated: seen.repeated(),
        })
    }

    fn row(&self, way: Way, consumed: &Consumed) -> Row {
        let Consumed { count, spent, repeated } = consumed;
        Row::new("consume")
            .text("WAY", "way", way.name())
            .text("STORAGE", "storage", self.stream.storage())
            .count("MESSAGES", "count", *count)
            .rate("MESSAGES/S", "messages_per_second", spent.per_second(*count))
            .spent(spent, *count, count.saturating_mul(self.size))
            .count("REPEATED", "repeated", *repeated)
            .json_only("size", self.size)
            .json_only("batch", self.batch)
            .json_only("concurrency", self.concurrency)
            .json_only("replicas", self.stream.replicas)
            .json_only("connections", self.connections)
    }
}

/// Have all come, and has nats-server all acks?
async fn check(consumer: &Consumer, seen: &Seen, count: u64) -> Result<(), Failure> {
    let info = consumer.info().await?;
    if seen.is_complete() && (info.ack_floor, info.pending, info.ack_pending) == (count, 0, 0) {
        return Ok(());
    }
    let text = format!(
        "of {count} messages {} have come; nats-server has {} as not acked and {} as not delivered",
        seen.distinct().load(Ordering::Relaxed),
        info.ack_pending,
        info.pending
    );
    Err(Failure::text(Exit::Incomplete, text))
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Each => "each",
        }
    }
}

/// Handles as many messages as the consumer is limited to.
async fn each(consumer: Consumer, seen: Arc<Seen>) -> Result<(), Failure> {
    let handler = move |message: Message| {
        seen.note(message.sequence());
        std::future::ready(Ok::<_, HandlerError>(()))
    };
    Ok(consumer.for_each(handler).await?)
}

/// Takes batches until all messages have come, here and elsewhere.
async fn batches(consumer: Consumer, seen: &Seen, size: usize) -> Result<(), Failure> {
    while !seen.is_complete() {
        let mut batch = consumer.fetch(size, Duration::ZERO).await?;
        if batch.messages().is_empty() {
            batch = tokio::select! {
                biased;
                batch = consumer.fetch(1, WITHIN) => batch?,
                () = seen.all() => return Ok(()),
            };
        }
        for message in batch.messages() {
            seen.note(message.sequence());
        }
        batch.ack().await?;
    }
    Ok(())
}
