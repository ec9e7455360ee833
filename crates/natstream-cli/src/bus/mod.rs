//! `natstream bus`: events, streams and consumers of JetStream.

mod batches;
mod consume;
mod consumer;
mod dlq;
mod publish;
mod source;
mod spool;
mod stream;
mod tally;
mod totals;

pub(crate) use self::batches::cannot_open;
pub(crate) use self::stream::{ChangesForm, StorageForm};

use std::io;

use clap::{Args, Subcommand};
use natstream::eventbus::topology::{TopologyError, TopologyErrorKind};
use natstream::eventbus::{ConsumeError, ConsumeErrorKind};

use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupts;
use crate::output::Output;
use crate::program::Context;
use crate::session::{self, Refusals};

/// Publish events to JetStream, consume them, and keep its streams and consumers.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  natstream bus stream add ORDERS --subjects 'orders.>'\n  natstream bus publish orders.new @order.json\n  natstream bus consume ORDERS --durable show --idle-timeout 1s"
)]
pub(crate) struct BusArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Consume(consume::ConsumeArgs),
    Consumer(consumer::ConsumerArgs),
    Dlq(dlq::DlqArgs),
    Publish(publish::PublishArgs),
    Stream(stream::StreamArgs),
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: BusArgs) -> Result<Exit, Failure> {
    match args.command {
        Command::Consume(args) => consume::run(context, args).await,
        Command::Consumer(args) => consumer::run(context, args).await,
        Command::Dlq(args) => dlq::run(context, args).await,
        Command::Publish(args) => publish::run(context, args).await,
        Command::Stream(args) => stream::run(context, args).await,
    }
}

/// What JetStream answers, unless a signal comes first, or nats-server does not permit to ask: then it never answers.
async fn ask<T, E: Into<Failure>>(
    interrupts: &mut Interrupts,
    refusals: &mut Refusals,
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    tokio::select! {
        answered = question => answered.map_err(Into::into),
        refusal = refusals.next() => Err(refusal.into_failure()),
        signal = interrupts.next() => Err(session::interrupted(signal)),
    }
}

/// Writes a listing to standard output.
pub(crate) async fn print(context: &mut Context, text: &str) -> Result<(), Failure> {
    let mut output = Output::new();
    output.buffer().extend_from_slice(text.as_bytes());
    tokio::select! {
        written = output.flush() => match written {
            // A closed pipe is not an error; a full disk is.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let error = anyhow::Error::new(error).context("the answer cannot be written to standard output");
                Err(Failure::new(Exit::Lost, error))
            }
            _ => Ok(()),
        },
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    }
}

impl From<TopologyError> for Failure {
    fn from(error: TopologyError) -> Self {
        let exit = match error.kind() {
            TopologyErrorKind::Connection => Exit::NoConnection,
            TopologyErrorKind::InvalidName => Exit::Usage,
            TopologyErrorKind::NotEnabled => Exit::NobodyAnswers,
            TopologyErrorKind::Timeout => Exit::ClockRanOut,
            _ => Exit::Failed,
        };
        Self {
            hint: topology_hint(&error).map(str::to_owned),
            ..Self::new(exit, error)
        }
    }
}

/// What to do about a stream or consumer that is not as it should be.
pub(crate) fn topology_hint(error: &TopologyError) -> Option<&'static str> {
    Some(match error.kind() {
        TopologyErrorKind::Differs if error.differences().iter().any(|difference| difference.destroys) => {
            "--update any changes it, also where that deletes or refuses messages"
        }
        TopologyErrorKind::Differs => "--update harmless changes it",
        TopologyErrorKind::InvalidName => "names have no blanks and none of . * > / \\",
        TopologyErrorKind::NotEnabled => NOT_ENABLED,
        TopologyErrorKind::NotFound => {
            "`natstream bus stream ls` and `natstream bus consumer ls STREAM` say what there is, `add` makes one"
        }
        TopologyErrorKind::Timeout => "`natstream doctor` looks at permissions and leaders",
        _ => return None,
    })
}

/// What to do where there is no JetStream.
pub(crate) const NOT_ENABLED: &str = "`natstream doctor` says what to configure";

impl From<ConsumeError> for Failure {
    fn from(error: ConsumeError) -> Self {
        let exit = match error.kind() {
            ConsumeErrorKind::Closed => Exit::NoConnection,
            ConsumeErrorKind::Invalid => Exit::Usage,
            ConsumeErrorKind::NotPermitted => Exit::NotPermitted,
            ConsumeErrorKind::Timeout => Exit::ClockRanOut,
            ConsumeErrorKind::Unconfirmed => Exit::Incomplete,
            _ => Exit::Failed,
        };
        let hint = (exit == Exit::NotPermitted).then(|| session::PERMISSIONS.to_owned());
        Self {
            hint,
            ..Self::new(exit, error)
        }
    }
}
