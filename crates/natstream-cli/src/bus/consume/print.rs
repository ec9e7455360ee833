//! Messages on standard output, in the order of the stream.

use std::io;
use std::time::Duration;

use natstream::eventbus::{Batch, ConsumeErrorKind, Consumer, Message};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;

use super::ConsumeArgs;
use crate::clock;
use crate::exit::Failure;
use crate::format::{self, Format};
use crate::output::{self, Output};

/// Messages of one batch: written together, and then acked together.
const BATCH: u64 = 256;

/// How long one question for the next message waits.
const WAIT: Duration = Duration::from_secs(30);

/// The pause before a connection that is down is looked at again.
const PAUSE: Duration = Duration::from_millis(100);

/// How often nats-server is told of what standard output takes long for: well within any ack wait that makes sense.
const SIGNAL: Duration = Duration::from_millis(300);

/// Prints batches.
pub(super) struct Printer {
    consumer: Consumer,
    format: Format,
    /// How many messages are to be printed.
    left: u64,
    idle_timeout: Option<Duration>,
    pub(super) tally: Tally,
}

/// What became of messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) handled: u64,
    pub(super) failed: u64,
    pub(super) dead: u64,
    /// Those that were delivered more than once.
    pub(super) repeated: u64,
    pub(super) unconfirmed: u64,
    pub(super) lag: u64,
}

impl Printer {
    pub(super) fn new(consumer: Consumer, args: &ConsumeArgs) -> Self {
        Self {
            consumer,
            format: args.format.format(),
            left: args.max_items.unwrap_or(u64::MAX),
            idle_timeout: args.idle_timeout,
            tally: Tally::default(),
        }
    }

    /// Prints until there were enough, nothing came for long enough, nobody reads, or it is told to stop. Each batch is written
    /// before it is acked.
    ///
    /// # Cancel safety
    /// Dropped early, what was not acked comes again after its ack wait.
    pub(super) async fn run(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Failure> {
        let mut output = Output::new();
        let mut last = clock::now();
        while self.left > 0 && !*stop.borrow() {
            let count = usize::try_from(self.left.min(BATCH)).unwrap_or(usize::MAX);
            let mut batch = self.consumer.fetch(count, Duration::ZERO).await;
            if batch.as_ref().is_ok_and(|batch| batch.messages().is_empty()) {
                let quiet = clock::now().saturating_duration_since(last);
                let wait = self
                    .idle_timeout
                    .map_or(WAIT, |limit| limit.saturating_sub(quiet).min(WAIT));
                if wait.is_zero() {
                    return Ok(());
                }
                batch = tokio::select! {
                    biased;
                    _ = stop.wait_for(|stops| *stops) => return Ok(()),
                    batch = self.consumer.fetch(1, wait) => batch,
                };
            }
            let batch = match batch {
                Ok(batch) if batch.messages().is_empty() => continue,
                Ok(batch) => batch,
                // It may be down: whoever looks after the connection knows when it is closed for good.
                Err(error) if error.kind() == ConsumeErrorKind::Closed => {
                    tracing::debug!(%error, "no messages at the moment");
                    sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if let Err(error) = self.print(&batch, &mut output).await {
                // Nobody reads: what was not acked comes again.
                batch.nak(PAUSE);
                return output::failure(error).map_or(Ok(()), Err);
            }
            self.ack(batch).await?;
            last = clock::now();
        }
        Ok(())
    }

    async fn print(&self, batch: &Batch, output: &mut Output) -> io::Result<()> {
        for message in batch.messages() {
            self.append(message, output.buffer());
        }
        let mut written = std::pin::pin!(output.flush());
        loop {
            tokio::select! {
                written = &mut written => return written,
                () = sleep(SIGNAL) => batch.in_progress(),
            }
        }
    }

    async fn ack(&mut self, batch: Batch) -> Result<(), Failure> {
        let count = batch.messages().len() as u64;
        let repeated = batch.messages().iter().filter(|message| message.attempt() > 1);
        self.tally.repeated += repeated.count() as u64;
        self.tally.lag = batch.messages().last().map_or(0, Message::pending);
        self.tally.handled += count;
        self.left = self.left.saturating_sub(count);
        match batch.ack().await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ConsumeErrorKind::Unconfirmed => {
                self.tally.unconfirmed += count;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn append(&self, message: &Message, out: &mut Vec<u8>) {
        let fields = || {
            let mut fields = format!(
                "\"subject\":{},\"seq\":{},\"attempt\":{},\"stored\":\"{}\"",
                Value::from(message.subject()),
                message.sequence(),
                message.attempt(),
                message.stored_at(),
            );
            if let Some(headers) = format::headers(message.headers()) {
                fields.push(',');
                fields.push_str(&headers);
            }
            fields
        };
        self.format.append(fields, message.payload(), out);
    }
}
