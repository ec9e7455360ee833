//! A stream that is there for a bench only.

use std::time::Duration;

use clap::Args;
use natstream::Connection;
use natstream::connect::token;
use natstream::eventbus::topology::{StreamInfo, StreamSpec, Topology, TopologyError, TopologyErrorKind};
use tokio::time::sleep;

use crate::bus::StorageForm;
use crate::clock::now;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupts;
use crate::program::Context;
use crate::session::{self, Refusals};

/// For how long it is tried to remove it, and how long the pauses are.
const REMOVE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);

/// Messages of a stream that nobody could remove go after so long.
const AGE: Duration = Duration::from_secs(3600);

/// What the stream is like.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct StreamOptions {
    /// Where the messages are kept.
    #[arg(long, value_enum, default_value = "memory")]
    storage: StorageForm,
    /// Servers that have each message.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub(super) replicas: u8,
}

impl StreamOptions {
    pub(super) fn storage(self) -> &'static str {
        match self.storage {
            StorageForm::File => "file",
            StorageForm::Memory => "memory",
        }
    }
}

/// The stream.
#[derive(Clone, Debug)]
pub(super) struct Temporary {
    connection: Connection,
    topology: Topology,
    pub(super) name: String,
    /// What it takes.
    pub(super) subject: String,
}

impl Temporary {
    /// Makes it. A signal waits for the answer, since what is made is to be removed; a second one does not.
    async fn make(
        connection: &Connection,
        options: StreamOptions,
        is_fast: bool,
        interrupts: &mut Interrupts,
    ) -> Result<Self, Failure> {
        let token = token();
        let stream = Self {
            connection: connection.clone(),
            topology: Topology::new(connection.clone()),
            name: format!("NATSTREAM_BENCH_{token}"),
            subject: format!("natstream.bench.{token}"),
        };
        let mut spec = StreamSpec::new(&stream.name, [&stream.subject])
            .storage(options.storage.into())
            .replicas(options.replicas.into())
            .max_age(AGE)
            .description("made by natstream bench, which removes it at its end");
        if is_fast {
            spec = spec.allow_batched(true);
        }
        let made = stream.topology.ensure(&spec);
        match answer(made, Refusals::of(connection), interrupts).await? {
            (Ok(_), None) => Ok(stream),
            (Ok(_), Some(signal)) => stream.removed(Err(session::interrupted(signal)), interrupts).await,
            (Err(error), _) if error.kind() == TopologyErrorKind::Differs => {
                let failure = match is_fast {
                    true => Failure::new(Exit::Failed, error).with_hint("--mode fast needs nats-server 2.14"),
                    false => Failure::new(Exit::Failed, error),
                };
                stream.removed(Err(failure), interrupts).await
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    pub(super) async fn info(&self) -> Result<StreamInfo, TopologyError> {
        self.topology.info(&self.name).await
    }

    /// Removes it; a server that is starting again may not answer at first.
    async fn remove(&self) -> Result<(), TopologyError> {
        let until = now() + REMOVE;
        loop {
            match self.topology.delete(&self.name).await {
                Ok(()) => return Ok(()),
                // In memory, it is gone with its server.
                Err(error) if error.kind() == TopologyErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() == TopologyErrorKind::Rejected || now() >= until => return Err(error),
                Err(error) => tracing::debug!(%error, "the stream is not removed yet"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Removes it. `outcome` is told in any case, and what cannot be removed too.
    async fn removed<T>(&self, outcome: Result<T, Failure>, interrupts: &mut Interrupts) -> Result<T, Failure> {
        let mut refusals = Refusals::of(&self.connection);
        let removed = tokio::select! {
            removed = self.remove() => removed.map_err(Failure::from),
            refusal = refusals.next() => Err(refusal.into_failure()),
            signal = interrupts.next() => Err(session::interrupted(signal)),
        };
        let Err(failure) = removed else {
            return outcome;
        };
        let left = format!("the stream {} is left behind", self.name);
        let failure = match outcome {
            Ok(_) => Failure {
                error: failure.error.context(left),
                ..failure
            },
            Err(first) => Failure {
                error: first.error.context(left),
                ..first
            },
        };
        Err(failure.with_hint(format!("`natstream bus stream rm {}` removes it", self.name)))
    }
}

/// What is answered, and a signal that came before.
async fn answer<T>(
    question: impl Future<Output = T>,
    mut refusals: Refusals,
    interrupts: &mut Interrupts,
) -> Result<(T, Option<&'static str>), Failure> {
    let mut question = std::pin::pin!(question);
    let mut signal = None;
    loop {
        tokio::select! {
            biased;
            answer = &mut question => return Ok((answer, signal)),
            refusal = refusals.next() => return Err(refusal.into_failure()),
            another = interrupts.next() => match signal {
                Some(_) => return Err(session::interrupted(another)),
                None => signal = Some(another),
            },
        }
    }
}

/// Makes a stream, works with it, and removes it whatever happens: also after a signal.
pub(super) async fn with_stream<T>(
    context: &mut Context,
    connection: &Connection,
    options: StreamOptions,
    is_fast: bool,
    work: impl AsyncFnOnce(&Temporary) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let stream = Temporary::make(connection, options, is_fast, &mut context.interrupts).await?;
    context.console.progress(&format!("using the stream {}", stream.name));
    let mut refusals = Refusals::of(connection);
    let outcome = tokio::select! {
        biased;
        outcome = work(&stream) => outcome,
        refusal = refusals.next() => Err(refusal.into_failure()),
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
        () = session::tell_state(connection, context.console) => Err(session::ended(connection)),
    };
    stream.removed(outcome, &mut context.interrupts).await
}
