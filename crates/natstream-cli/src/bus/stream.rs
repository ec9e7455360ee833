//! `natstream bus stream`: the streams of JetStream.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use natstream::Connection;
use natstream::eventbus::topology::{
    Changes, Discard, Durability, Retention, Storage, StreamInfo, StreamSpec, Topology, TopologyErrorKind,
};
use serde_json::{Value, json};

use super::print;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::{duration, session, size};

const EXAMPLES: &str = "\
Examples:
  natstream bus stream add ORDERS --subjects 'orders.>' --replicas 3 --max-age 30days
  natstream bus stream info ORDERS --json | jq .messages";

/// For how long events are tried by default.
const DEADLINE: Duration = Duration::from_secs(30);

/// Make, look at and delete streams.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StreamArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a stream, or compare one that is there; changes it only when told to.
    #[command(
        after_help = "Examples:\n  natstream bus stream add ORDERS --subjects 'orders.>' --replicas 3\n  natstream bus stream add JOBS --subjects 'jobs.*' --retention work-queue --max-age 1day"
    )]
    Add(AddArgs),
    /// Show a stream, and what its acks are worth.
    #[command(
        after_help = "Examples:\n  natstream bus stream info ORDERS\n  natstream bus stream info ORDERS --json | jq .last_seq"
    )]
    Info {
        /// The stream.
        name: String,
    },
    /// List all streams.
    #[command(after_help = "Examples:\n  natstream bus stream ls")]
    Ls,
    /// Delete a stream and all that it has.
    #[command(after_help = "Examples:\n  natstream bus stream rm ORDERS")]
    Rm {
        /// The stream.
        name: String,
    },
}

#[derive(Args, Debug)]
struct AddArgs {
    /// The stream.
    name: String,
    /// Subjects that it takes, with commas between them.
    #[arg(long, value_name = "SUBJECT[,SUBJECT]", value_delimiter = ',', required = true)]
    subjects: Vec<String>,
    /// Where messages are kept [nats-server's default: file].
    #[arg(long, value_enum)]
    storage: Option<StorageForm>,
    /// Servers that have each message [nats-server's default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: Option<u8>,
    /// Age at which a message goes [nats-server's default: never].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    max_age: Option<Duration>,
    /// Bytes of all messages [nats-server's default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = size::parse_positive)]
    max_bytes: Option<u64>,
    /// Number of messages [nats-server's default: no limit].
    #[arg(long, value_name = "N")]
    max_messages: Option<u64>,
    /// Bytes of one message [nats-server's default: max_payload].
    #[arg(long, value_name = "N")]
    max_message_size: Option<u32>,
    /// How long ids are remembered; at least twice as long as events are tried [nats-server's default: 2m].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    duplicate_window: Option<Duration>,
    /// How long messages are kept [nats-server's default: limits].
    #[arg(long, value_enum)]
    retention: Option<RetentionForm>,
    /// Which messages go when a limit is reached [nats-server's default: old].
    #[arg(long, value_enum)]
    discard: Option<DiscardForm>,
    /// Take batches of fast ingest; needs nats-server 2.14.
    #[arg(long)]
    allow_batched: bool,
    /// Take atomic batches; needs nats-server 2.12.
    #[arg(long)]
    allow_atomic: bool,
    /// Change a stream that is there and is not as declared.
    #[arg(long, value_enum, value_name = "CHANGES")]
    update: Option<ChangesForm>,
}

/// Where messages are kept.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum StorageForm {
    File,
    Memory,
}

impl From<StorageForm> for Storage {
    fn from(form: StorageForm) -> Self {
        match form {
            StorageForm::File => Self::File,
            StorageForm::Memory => Self::Memory,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RetentionForm {
    Limits,
    Interest,
    WorkQueue,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DiscardForm {
    Old,
    New,
}

/// Which changes are meant.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ChangesForm {
    /// Where that deletes and refuses nothing.
    Harmless,
    /// In any case.
    Any,
}

impl From<ChangesForm> for Changes {
    fn from(form: ChangesForm) -> Self {
        match form {
            ChangesForm::Harmless => Self::Harmless,
            ChangesForm::Any => Self::Any,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: StreamArgs) -> Result<Exit, Failure> {
    let connection = session::connect(&context.connection, "natstream bus", &mut context.interrupts).await?;
    let answered = tokio::select! {
        answered = answer(&connection, args.command, context.console.is_json()) => answered,
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    session::leave(&connection, &mut context.interrupts).await;
    print(&mut context, &answered?).await?;
    Ok(Exit::Complete)
}

async fn answer(connection: &Connection, command: Command, is_json: bool) -> Result<String, Failure> {
    let topology = Topology::new(connection.clone());
    let infos = match command {
        Command::Add(args) => {
            let changes = args.update;
            let spec = spec(args);
            let ensured = topology.ensure(&spec).await;
            match (ensured, changes) {
                (Err(error), Some(changes)) if error.kind() == TopologyErrorKind::Differs => {
                    vec![topology.update(&spec, changes.into()).await?]
                }
                (ensured, _) => vec![ensured?],
            }
        }
        Command::Info { name } => vec![topology.info(&name).await?],
        Command::Ls => {
            let all = topology.list().await?;
            if !is_json {
                return Ok(table(&all));
            }
            all
        }
        Command::Rm { name } => {
            topology.delete(&name).await?;
            return Ok(String::new());
        }
    };
    Ok(infos
        .iter()
        .map(|info| {
            if is_json {
                format!("{}\n", json_of(info))
            } else {
                text_of(info)
            }
        })
        .collect())
}

fn spec(args: AddArgs) -> StreamSpec {
    let mut spec = StreamSpec::new(args.name, args.subjects);
    if let Some(storage) = args.storage {
        spec = spec.storage(storage.into());
    }
    if let Some(replicas) = args.replicas {
        spec = spec.replicas(replicas.into());
    }
    if let Some(age) = args.max_age {
        spec = spec.max_age(age);
    }
    if let Some(bytes) = args.max_bytes {
        spec = spec.max_bytes(bytes);
    }
    if let Some(messages) = args.max_messages {
        spec = spec.max_messages(messages);
    }
    if let Some(bytes) = args.max_message_size {
        spec = spec.max_message_size(bytes);
    }
    if let Some(window) = args.duplicate_window {
        spec = spec.duplicate_window(window);
    }
    if let Some(retention) = args.retention {
        spec = spec.retention(match retention {
            RetentionForm::Limits => Retention::Limits,
            RetentionForm::Interest => Retention::Interest,
            RetentionForm::WorkQueue => Retention::WorkQueue,
        });
    }
    if let Some(discard) = args.discard {
        spec = spec.discard(match discard {
            DiscardForm::Old => Discard::Old,
            DiscardForm::New => Discard::New,
        });
    }
    if args.allow_batched {
        spec = spec.allow_batched(true);
    }
    if args.allow_atomic {
        spec = spec.allow_atomic(true);
    }
    spec
}

fn json_of(info: &StreamInfo) -> Value {
    let durability = Durability::of(info, DEADLINE, None);
    let weaknesses: Vec<String> = durability.weaknesses.iter().map(ToString::to_string).collect();
    json!({
        "name": info.name,
        "subjects": info.subjects,
        "storage": info.storage,
        "replicas": info.replicas,
        "messages": info.messages,
        "bytes": info.bytes,
        "first_seq": info.first_sequence,
        "last_seq": info.last_sequence,
        "consumers": info.consumers,
        "leader": info.leader,
        "duplicate_window_seconds": info.duplicate_window.as_secs_f64(),
        "survives": survives(&durability),
        "weaknesses": weaknesses,
        "config": info.config,
    })
}

fn survives(durability: &Durability) -> Vec<String> {
    durability.survives.iter().map(ToString::to_string).collect()
}

fn text_of(info: &StreamInfo) -> String {
    let durability = Durability::of(info, DEADLINE, None);
    let mut text = format!(
        "{}: {} messages ({} to {}), {}\n  subjects {}\n  {:?}, {} replicas, {} consumers, ids remembered for {}\n",
        info.name,
        info.messages,
        info.first_sequence,
        info.last_sequence,
        size::display(info.bytes as f64),
        info.subjects.join(", "),
        info.storage,
        info.replicas,
        info.consumers,
        humantime::format_duration(info.duplicate_window),
    );
    let survives = survives(&durability).join(", ");
    let survives = if survives.is_empty() { "nothing" } else { &survives };
    text.push_str(&format!("  what is acked survives: {survives}\n"));
    for weakness in &durability.weaknesses {
        text.push_str(&format!("  - {weakness}\n"));
    }
    text
}

fn table(infos: &[StreamInfo]) -> String {
    let width = infos.iter().map(|info| info.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!(
        "{:width$}  {:>12}  {:>10}  {:>8}  SUBJECTS\n",
        "NAME", "MESSAGES", "SIZE", "REPLICAS"
    );
    for info in infos {
        let size = size::display(info.bytes as f64);
        let subjects = info.subjects.join(", ");
        text.push_str(&format!(
            "{:width$}  {:>12}  {size:>10}  {:>8}  {subjects}\n",
            info.name, info.messages, info.replicas
        ));
    }
    text
}
