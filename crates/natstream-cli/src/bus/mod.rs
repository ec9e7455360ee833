//! `natstream bus`: events and streams of JetStream.

mod publish;
mod source;
mod spool;
mod stream;
mod tally;

pub(crate) use self::stream::{ChangesForm, StorageForm};

use std::io;

use clap::{Args, Subcommand};
use natstream::eventbus::topology::{TopologyError, TopologyErrorKind};

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::program::Context;
use crate::session;

/// Publish events to JetStream, and keep its streams.
#[derive(Args, Debug)]
pub(crate) struct BusArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Publish(publish::PublishArgs),
    Stream(stream::StreamArgs),
}

/// Runs the command.
pub(crate) async fn run(context: Context, args: BusArgs) -> Result<Exit, Failure> {
    match args.command {
        Command::Publish(args) => publish::run(context, args).await,
        Command::Stream(args) => stream::run(context, args).await,
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
        let (exit, hint) = match error.kind() {
            TopologyErrorKind::InvalidName => (Exit::Usage, None),
            TopologyErrorKind::Connection => (Exit::NoConnection, None),
            TopologyErrorKind::Differs if error.differences().iter().any(|difference| difference.destroys) => (
                Exit::Failed,
                Some("--update any changes it, also where that deletes or refuses messages"),
            ),
            TopologyErrorKind::Differs => (Exit::Failed, Some("--update harmless changes it")),
            TopologyErrorKind::NotEnabled => (Exit::NobodyAnswers, Some("`natstream doctor` says what to configure")),
            TopologyErrorKind::Timeout => (
                Exit::ClockRanOut,
                Some("`natstream doctor` looks at permissions and leaders"),
            ),
            _ => (Exit::Failed, None),
        };
        Self {
            hint: hint.map(str::to_owned),
            ..Self::new(exit, error)
        }
    }
}
