//! `natstream bus consumer`: the durable pull consumers of a stream.

use std::time::Duration;

use clap::{Args, Subcommand};
use natstream::Connection;
use natstream::eventbus::topology::{ConsumerInfo, ConsumerSpec, Deliver, Topology, TopologyErrorKind};
use serde_json::{Value, json};

use super::{ask, print};
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::session::{self, Refusals};

const EXAMPLES: &str = "\
Examples:
  natstream bus consumer add ORDERS mail --filter 'orders.*.created' --ack-wait 1m
  natstream bus consumer ls ORDERS";

/// Make, look at and delete consumers.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConsumerArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a durable pull consumer, or compare one that is there.
    #[command(
        after_help = "Examples:\n  natstream bus consumer add ORDERS mail --filter 'orders.*.created' --ack-wait 1m\n  natstream bus consumer add ORDERS stock --deliver new --max-ack-pending 64"
    )]
    Add(AddArgs),
    /// Show a consumer, and how far it is.
    #[command(after_help = "Examples:\n  natstream bus consumer info ORDERS mail")]
    Info(Place),
    /// List the consumers of a stream.
    #[command(after_help = "Examples:\n  natstream bus consumer ls ORDERS")]
    Ls {
        /// The stream.
        stream: String,
    },
    /// Delete a consumer, and with it what it knows of acks.
    #[command(after_help = "Examples:\n  natstream bus consumer rm ORDERS mail")]
    Rm(Place),
}

#[derive(Args, Debug)]
struct AddArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args, Debug)]
struct Place {
    /// The stream.
    stream: String,
    /// The consumer.
    name: String,
}

/// What a consumer has, if it is told.
#[derive(Args, Debug)]
pub(super) struct Settings {
    /// Only messages of these subjects, which may have wildcards; may be given several times [default: all].
    #[arg(long, value_name = "SUBJECT", value_delimiter = ',')]
    pub(super) filter: Vec<String>,
    /// After how long a message that was not acked is delivered again [default: 30s].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    ack_wait: Option<Duration>,
    /// Messages that may be delivered and not acked, at all clients together [nats-server's default: 1000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_ack_pending: Option<u64>,
    /// Where a new consumer begins: all, new, or the number of a message [default: all].
    #[arg(long, value_name = "all|new|SEQ", value_parser = deliver)]
    deliver: Option<Deliver>,
}

fn deliver(text: &str) -> Result<Deliver, String> {
    match text {
        "all" => Ok(Deliver::All),
        "new" => Ok(Deliver::New),
        number => match number.parse() {
            Ok(sequence) if sequence > 0 => Ok(Deliver::From(sequence)),
            _ => Err("it is all, new, or a number from 1".to_owned()),
        },
    }
}

impl Settings {
    /// The consumer that these settings make.
    pub(super) fn spec(&self, stream: &str, name: &str) -> ConsumerSpec {
        let mut spec = ConsumerSpec::new(stream, name).filters(&self.filter);
        if let Some(wait) = self.ack_wait {
            spec = spec.ack_wait(wait);
        }
        if let Some(messages) = self.max_ack_pending {
            spec = spec.max_ack_pending(messages);
        }
        if let Some(deliver) = self.deliver {
            spec = spec.deliver(deliver);
        }
        spec
    }
}

/// Fails when a consumer of that name is there and is not as declared, or when its stream is not there.
pub(super) async fn compare(topology: &Topology, spec: &ConsumerSpec) -> Result<(), Failure> {
    let differences = match topology.compare_consumer(spec).await {
        Ok(differences) => differences,
        Err(error) if error.kind() == TopologyErrorKind::NotFound => {
            // Which of the two is missing?
            topology.info(spec.stream()).await?;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if differences.is_empty() {
        return Ok(());
    }
    let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
    let text = format!("the consumer `{}` is there: {}", spec.name(), differences.join(", "));
    Err(Failure::text(Exit::Failed, text).with_hint(
        "without these options it is used as it is; `natstream bus consumer rm` deletes it, and what it knows of acks",
    ))
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: ConsumerArgs) -> Result<Exit, Failure> {
    let connection = session::connect(&context.connection, "natstream bus", &mut context.interrupts).await?;
    let mut refusals = Refusals::of(&connection);
    let question = answer(&connection, args.command, context.console.is_json());
    let answered = ask(&mut context.interrupts, &mut refusals, question).await;
    session::leave(&connection, &mut context.interrupts).await;
    print(&mut context, &answered?).await?;
    Ok(Exit::Complete)
}

async fn answer(connection: &Connection, command: Command, is_json: bool) -> Result<String, Failure> {
    let topology = Topology::new(connection.clone());
    let infos = match command {
        Command::Add(AddArgs { place, settings }) => {
            let spec = settings.spec(&place.stream, &place.name);
            compare(&topology, &spec).await?;
            vec![topology.ensure_consumer(&spec).await?]
        }
        Command::Info(Place { stream, name }) => vec![topology.consumer(&stream, &name).await?],
        Command::Ls { stream } => {
            let all = topology.consumers(&stream).await?;
            if !is_json {
                return Ok(table(&all));
            }
            all
        }
        Command::Rm(Place { stream, name }) => {
            topology.delete_consumer(&stream, &name).await?;
            return Ok(String::new());
        }
    };
    let text = |info: &ConsumerInfo| {
        if is_json {
            format!("{}\n", json_of(info))
        } else {
            text_of(info)
        }
    };
    Ok(infos.iter().map(text).collect())
}

/// The subjects that it gets.
fn filters(info: &ConsumerInfo) -> Vec<&str> {
    let one = info.config.get("filter_subject").and_then(Value::as_str);
    let many = info.config.get("filter_subjects").and_then(Value::as_array);
    let many = many.into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(many).collect()
}

fn json_of(info: &ConsumerInfo) -> Value {
    json!({
        "stream": info.stream,
        "name": info.name,
        "filters": filters(info),
        "ack_wait_seconds": info.ack_wait.as_secs_f64(),
        "delivered": info.delivered,
        "ack_floor": info.ack_floor,
        "pending": info.pending,
        "ack_pending": info.ack_pending,
        "redelivered": info.redelivered,
        "waiting": info.waiting,
        "config": info.config,
    })
}

fn text_of(info: &ConsumerInfo) -> String {
    let filters = filters(info);
    format!(
        "{} of {}: {} messages behind\n  \
         delivered to {}, acked to {}; {} under way, {} of them not for the first time; {} requests wait\n  \
         subjects {}\n  ack wait {}\n",
        info.name,
        info.stream,
        info.pending,
        info.delivered,
        info.ack_floor,
        info.ack_pending,
        info.redelivered,
        info.waiting,
        if filters.is_empty() {
            "all".to_owned()
        } else {
            filters.join(", ")
        },
        humantime::format_duration(info.ack_wait),
    )
}

fn table(infos: &[ConsumerInfo]) -> String {
    let width = infos.iter().map(|info| info.name.len()).max().unwrap_or(0).max(4);
    let mut text = format!(
        "{:width$}  {:>12}  {:>10}  {:>12}  {:>8}  SUBJECTS\n",
        "NAME", "BEHIND", "UNDER WAY", "ACKED TO", "ACK WAIT"
    );
    for info in infos {
        let wait = humantime::format_duration(info.ack_wait).to_string();
        let subjects = filters(info).join(", ");
        text.push_str(&format!(
            "{:width$}  {:>12}  {:>10}  {:>12}  {wait:>8}  {subjects}\n",
            info.name, info.pending, info.ack_pending, info.ack_floor
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_consumer_begins_is_read() {
        assert_eq!(deliver("all"), Ok(Deliver::All));
        assert_eq!(deliver("new"), Ok(Deliver::New));
        assert_eq!(deliver("7"), Ok(Deliver::From(7)));
        for text in ["", "0", "-1", "last"] {
            assert!(deliver(text).is_err(), "{text}");
        }
    }
}
