//! Where events come from: the command line, lines, or a generator.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bytes::Bytes;
use clap::Args;
use natstream::Event;
use natstream::connect::async_nats::Subject;
use natstream::eventbus::envelope::Envelope;
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use crate::content::Content;
use crate::exit::{Exit, Failure};
use crate::size;

/// `max_payload` is at most this.
const LONGEST_LINE: u64 = 64 << 20;

/// What is published.
#[derive(Args, Debug)]
pub(super) struct SourceArgs {
    #[command(flatten)]
    content: Content,
    /// Each line of @FILE or - is an event.
    #[arg(long)]
    lines: bool,
    /// Generate so many events: the number from 0 as text.
    #[arg(long, value_name = "N", conflicts_with_all = ["data", "lines"])]
    count: Option<u64>,
    /// Pad generated events with dots to so many bytes [default: not at all].
    #[arg(long, value_name = "SIZE", requires = "count", value_parser = size::parse)]
    size: Option<u64>,
    /// Prefix of the events' ids; a dot and the number of the event follow, so that the same events have the same ids when they
    /// are published again [default: random].
    #[arg(long, value_name = "PREFIX")]
    msg_id_prefix: Option<String>,
    /// Put each payload into an envelope.
    #[arg(long, value_enum, default_value_t)]
    envelope: EnvelopeForm,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum EnvelopeForm {
    /// The payload as it is.
    #[default]
    None,
    /// CloudEvents 1.0, as one JSON object. A payload that is not JSON becomes a text.
    Cloudevents,
}

/// The events, one after the other.
pub(super) struct Source {
    subject: Subject,
    args: SourceArgs,
    payloads: Payloads,
    /// Events so far.
    number: u64,
}

enum Payloads {
    Generated { left: u64 },
    Lines(BufReader<Box<dyn AsyncRead + Send + Unpin>>),
    One(Option<Bytes>),
}

impl Source {
    pub(super) async fn open(subject: &str, args: SourceArgs) -> Result<Self, Failure> {
        let payloads = match args.count {
            Some(left) => Payloads::Generated { left },
            None if args.lines => Payloads::Lines(BufReader::new(reader(args.content.data()).await?)),
            None => Payloads::One(Some(args.content.read().await?)),
        };
        Ok(Self {
            subject: subject.into(),
            args,
            payloads,
            number: 0,
        })
    }

    /// How many there will be, if that is known.
    pub(super) fn expected(&self) -> Option<u64> {
        match self.payloads {
            Payloads::Generated { .. } => self.args.count,
            Payloads::Lines(_) => None,
            Payloads::One(_) => Some(1),
        }
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        let payload = match &mut self.payloads {
            Payloads::Generated { left: 0 } => None,
            Payloads::Generated { left } => {
                *left -= 1;
                Some(generated(self.number, size::to_usize(self.args.size.unwrap_or(0))))
            }
            Payloads::Lines(lines) => {
                // Bytes, whatever they mean. No more than nats-server can ever take: the bus refuses what is longer.
                let mut line = Vec::new();
                let read = lines.take(LONGEST_LINE).read_until(b'\n', &mut line).await;
                let read = read.map_err(|error| {
                    let error = anyhow::Error::new(error).context("the lines cannot be read");
                    Failure::new(Exit::Usage, error)
                })?;
                if line.last() == Some(&b'\n') {
                    line.pop();
                } else if read as u64 == LONGEST_LINE {
                    return Err(Failure::usage(format!(
                        "line {} is longer than 64 MiB",
                        self.number + 1
                    )));
                }
                (read > 0).then(|| Bytes::from(line))
            }
            Payloads::One(payload) => payload.take(),
        };
        let Some(payload) = payload else {
            return Ok(None);
        };
        let number = self.number;
        self.number += 1;
        self.event(payload, number).map(Some)
    }

    fn event(&self, payload: Bytes, number: u64) -> Result<Event, Failure> {
        let subject = self.subject.clone();
        let mut event = match self.args.envelope {
            EnvelopeForm::None => Event::new(subject, payload),
            EnvelopeForm::Cloudevents => {
                let data = serde_json::from_slice(&payload)
                    .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&payload).into_owned()));
                let kind = self.subject.as_str();
                let envelope = Envelope::new("natstream", kind, data);
                envelope
                    .event(subject)
                    .map_err(|error| Failure::new(Exit::Usage, error))?
            }
        };
        for (name, value) in self.args.content.headers() {
            event = event.header(name, value);
        }
        if let Some(prefix) = &self.args.msg_id_prefix {
            event = event.message_id(format!("{prefix}.{number}"));
        }
        Ok(event)
    }
}

/// The number as text, padded.
fn generated(number: u64, size: usize) -> Bytes {
    let mut text = number.to_string().into_bytes();
    text.resize(size.max(text.len()), b'.');
    text.into()
}

async fn reader(data: Option<&OsString>) -> Result<Box<dyn AsyncRead + Send + Unpin>, Failure> {
    match data.map(|data| data.as_bytes()) {
        Some(b"-") | None => Ok(Box::new(tokio::io::stdin())),
        Some([b'@', path @ ..]) => {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            let file = File::open(path).await.map_err(|error| {
                let error = anyhow::Error::new(error).context(format!("cannot read {}", path.display()));
                Failure::new(Exit::Usage, error)
            })?;
            Ok(Box::new(file))
        }
        Some(_) => Err(Failure::usage("--lines reads @FILE or -")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_events_are_padded_numbers() {
        assert_eq!(generated(7, 0), "7");
        assert_eq!(generated(12, 5), "12...");
        assert_eq!(generated(123_456, 3), "123456");
    }
}
