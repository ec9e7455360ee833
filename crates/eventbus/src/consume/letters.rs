//! Dead letters, once they lie in a stream: to be looked at, and to be sent on their way again.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;
use jiff::Timestamp;
use natstream_connect::Connection;

use super::dead_letter::{ATTEMPTS, CONSUMER, ORIGINAL, REASON, SEQUENCE, STORED, STREAM, SUBJECT};
use crate::bus::Bus;
use crate::envelope::decode;
use crate::error::PublishError;
use crate::event::Event;
use crate::reply::PublishAck;
use crate::topology::{Retention, Storage, Stored, StreamSpec, Topology, TopologyError, delete_message, next_message};

/// The id that a message had before it was redriven for the first time.
const FIRST_ID: &str = "Redriven-Msg-Id";

/// Headers that begin so are about a dead letter, and are not the message's.
const PREFIX: &str = "Dead-Letter-";

/// A stream of dead letters: what [`dead_letters`](crate::ConsumerBuilder::dead_letters) has put aside.
///
/// # Examples
///
/// ```no_run
/// use eventbus::{Bus, DeadLetters};
///
/// # async fn example(connection: natstream_connect::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::open(connection.clone()).await?;
/// let letters = DeadLetters::new(connection, DeadLetters::stream_of("ORDERS"));
/// let mut from = 0;
/// while let Some(letter) = letters.next(from).await? {
///     from = letter.sequence + 1;
///     println!("{}: {}", letter.subject, letter.reason);
///     letters.redrive(&bus, &letter).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DeadLetters {
    connection: Connection,
    stream: String,
}

/// A message that was put aside.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its number among the dead letters.
    pub sequence: u64,
    /// When it was put aside, by nats-server's clock.
    pub buried_at: Timestamp,
    /// What the message was published to.
    pub subject: String,
    /// The stream that it was in, if that is known.
    pub stream: Option<String>,
    /// The consumer that has put it aside, if that is known.
    pub consumer: Option<String>,
    /// Its number in that stream, if that is known.
    pub original_sequence: Option<u64>,
    /// How often it was tried, if that is known.
    pub attempts: Option<u64>,
    /// When that stream took it, if that is known.
    pub stored_at: Option<Timestamp>,
    /// Why it was put aside.
    pub reason: String,
    /// What it carries.
    pub payload: Bytes,
    /// The headers that it had, without those that nats-server reads.
    pub headers: HeaderMap,
    /// The id that it had.
    pub message_id: Option<String>,
}

/// Why a dead letter was not redriven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// It was not published. It lies where it lay.
    #[error("the dead letter was not published, and is kept")]
    Publish(#[source] PublishError),
    /// A stream has the message, but the dead letter could not be deleted. Redriving it again within the duplicate window stores
    /// it once.
    #[error("the dead letter was published, and could not be deleted")]
    Delete(#[source] TopologyError),
}

impl DeadLetters {
    /// Those in this stream.
    #[must_use]
    pub fn new(connection: Connection, stream: impl Into<String>) -> Self {
        Self {
            connection,
            stream: stream.into(),
        }
    }

    /// The stream that [`ensure_dead_letters`](Topology::ensure_dead_letters) makes for dead letters of this one:
    /// `<stream>-dlq`.
    #[must_use]
    pub fn stream_of(stream: &str) -> String {
        format!("{stream}-dlq")
    }

    /// The subject that it gives the dead letters of a consumer: `dlq.<stream>.<consumer>`.
    #[must_use]
    pub fn subject_of(stream: &str, consumer: &str) -> String {
        format!("dlq.{stream}.{consumer}")
    }

    /// The first dead letter that has this number or a later one; begin with 0, and go on with the last one's number and 1. A
    /// message that is none is passed over.
    ///
    /// One question to nats-server for each.
    ///
    /// # Errors
    /// [`NotFound`](crate::topology::TopologyErrorKind::NotFound) when there is no such stream, and others.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&self, mut from: u64) -> Result<Option<DeadLetter>, TopologyError> {
        while let Some(stored) = next_message(&self.connection, &self.stream, from).await? {
            from = stored.sequence.saturating_add(1);
            if let Some(letter) = DeadLetter::read(stored) {
                return Ok(Some(letter));
            }
        }
        Ok(None)
    }

    /// Publishes the message again, to the subject that it had, and deletes the dead letter when a stream has it.
    ///
    /// It has its payload and its headers. Its id is made of the dead letter's place: the duplicate window does not swallow it,
    /// though the stream may remember the first id, and a letter that is redriven twice, after a kill for instance, is stored
    /// once. The first id stays in the header `Redriven-Msg-Id`. Headers that nats-server reads, an expectation or a rollup,
    /// had their effect and are left out.
    ///
    /// All consumers of the stream get it, not only the one that has put it aside.
    ///
    /// # Errors
    /// [`RedriveError`].
    ///
    /// # Cancel safety
    /// Dropped early, it may be published; the dead letter is there or not, and is not deleted before that.
    pub async fn redrive(&self, bus: &Bus, letter: &DeadLetter) -> Result<PublishAck, RedriveError> {
        let event = letter.event(&self.stream);
        let ack = bus.publish(event).await.map_err(RedriveError::Publish)?;
        self.remove(letter.sequence).await.map_err(RedriveError::Delete)?;
        Ok(ack)
    }

    /// Deletes a dead letter, if it is there.
    ///
    /// # Errors
    /// [`NotFound`](crate::topology::TopologyErrorKind::NotFound) when there is no such stream, and others.
    ///
    /// # Cancel safety
    /// Dropped early, it may be gone.
    pub async fn remove(&self, sequence: u64) -> Result<(), TopologyError> {
        delete_message(&self.connection, &self.stream, sequence).await
    }
}

impl Topology {
    /// The subject for the dead letters of a consumer, `dlq.<stream>.<consumer>`, and a stream that takes it: where there is
    /// none, `<stream>-dlq` is made, in files, with as many replicas as the stream has, and without limits.
    ///
    /// ```no_run
    /// # async fn example(connection: natstream_connect::Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// use eventbus::Consumer;
    /// use eventbus::topology::{ConsumerSpec, Topology};
    ///
    /// let topology = Topology::new(connection.clone());
    /// let dead = topology.ensure_dead_letters("ORDERS", "mail").await?;
    /// let consumer = Consumer::builder(connection, ConsumerSpec::new("ORDERS", "mail")).dead_letters(dead, 5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotFound`](crate::topology::TopologyErrorKind::NotFound) when there is no such stream, [`Rejected`](crate::topology::TopologyErrorKind::Rejected) when
    /// the subjects overlap those of another stream, [`Differs`](crate::topology::TopologyErrorKind::Differs) when `<stream>-dlq` is there and
    /// takes other subjects, and others.
    ///
    /// # Cancel safety
    /// Dropped early, the stream may have been made.
    pub async fn ensure_dead_letters(&self, stream: &str, consumer: &str) -> Result<String, TopologyError> {
        let replicas = self.info(stream).await?.replicas;
        let subject = DeadLetters::subject_of(stream, consumer);
        // It may be somebody's own, with a limit or for several streams.
        match self.stream_of(&subject).await? {
            // It would get its own dead letters.
            Some(taker) if taker == stream => Err(TopologyError::overlaps(stream)),
            Some(_) => Ok(subject),
            None => {
                let spec = StreamSpec::new(DeadLetters::stream_of(stream), [format!("dlq.{stream}.>")])
                    .storage(Storage::File)
                    .retention(Retention::Limits)
                    .replicas(replicas);
                self.ensure(&spec).await?;
                Ok(subject)
            }
        }
    }
}

impl DeadLetter {
    /// `None` when it is another message.
    fn read(stored: Stored) -> Option<Self> {
        let Stored {
            sequence,
            payload,
            headers,
            stored_at,
            ..
        } = stored;
        let text = |name: &str| headers.get(name).map(|value| decode(value.as_str()));
        let number = |name: &str| text(name)?.parse().ok();
        let original_id = format!("{ORIGINAL}{NATS_MESSAGE_ID}");
        let mut own = HeaderMap::new();
        for (name, values) in headers.iter() {
            let bytes: &[u8] = name.as_ref();
            let is_own = |prefix: &str| {
                let start = bytes.get(..prefix.len());
                start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
            };
            if !is_own(PREFIX) && !is_own("Nats-") {
                for value in values {
                    own.append(name.clone(), value.clone());
                }
            }
        }
        Some(Self {
            sequence,
            buried_at: stored_at,
            subject: text(SUBJECT)?,
            stream: text(STREAM),
            consumer: text(CONSUMER),
            original_sequence: number(SEQUENCE),
            attempts: number(ATTEMPTS),
            stored_at: text(STORED).and_then(|text| text.parse().ok()),
            reason: text(REASON).unwrap_or_default(),
            payload,
            message_id: headers.get(original_id.as_str()).map(|value| value.as_str().to_owned()),
            headers: own,
        })
    }

    /// The message, to be published again; `stream` is the one that has this letter.
    fn event(&self, stream: &str) -> Event {
        // With its time: a stream that was made anew counts from 1 again.
        let id = format!(
            "redrive.{}.{}.{}",
            super::dead_letter::encode(stream),
            self.sequence,
            self.buried_at.as_nanosecond()
        );
        let mut event = Event::new(self.subject.clone(), self.payload.clone()).message_id(id);
        for (name, values) in self.headers.iter() {
            for value in values {
                event = event.header(name.as_ref(), value.as_str());
            }
        }
        if let Some(first) = &self.message_id
            && self.headers.get(FIRST_ID).is_none()
        {
            event = event.header(FIRST_ID, first);
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::dead_letter::dead_letter;
    use crate::consume::message::sample;

    fn stored(event: &Event) -> Stored {
        Stored {
            sequence: 3,
            payload: event.payload().clone(),
            headers: event.headers().expect("headers").clone(),
            stored_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn header(event: &Event, name: &str) -> Option<String> {
        let value = event.headers().and_then(|headers| headers.get(name));
        value.map(|value| value.as_str().to_owned())
    }

    #[test]
    fn a_dead_letter_is_read_and_becomes_the_message_that_it_was() {
        let headers = [("Tenant", "north"), ("Nats-Msg-Id", "order-7"), ("Nats-Rollup", "all")];
        let message = sample("orders.ü", &headers);
        let event = dead_letter("dead", "S", "c", &message, "100% wrong:\n没有");
        let letter = DeadLetter::read(stored(&event)).expect("a dead letter");
        assert_eq!((letter.sequence, letter.subject.as_str()), (3, "orders.ü"));
        assert_eq!(
            (letter.stream.as_deref(), letter.consumer.as_deref()),
            (Some("S"), Some("c"))
        );
        assert_eq!((letter.original_sequence, letter.attempts), (Some(7), Some(2)));
        assert_eq!(letter.stored_at, Some(message.stored_at()));
        assert_eq!(letter.reason, "100% wrong: 没有");
        assert_eq!(letter.message_id.as_deref(), Some("order-7"));

        let again = letter.event("S-dlq");
        assert_eq!(again.flaw(), None);
        assert_eq!((again.subject(), again.payload()), ("orders.ü", message.payload()));
        assert_eq!(header(&again, "Nats-Msg-Id").as_deref(), Some("redrive.S-dlq.3.0"));
        assert_eq!(header(&again, "Tenant").as_deref(), Some("north"));
        assert_eq!(header(&again, FIRST_ID).as_deref(), Some("order-7"));
        assert_eq!(again.headers().map(HeaderMap::len), Some(3), "{again:?}");
    }

    #[test]
    fn the_first_id_stays() {
        let message = sample("a", &[("Nats-Msg-Id", "redrive.x"), (FIRST_ID, "order-7")]);
        let event = dead_letter("dead", "S", "c", &message, "");
        let letter = DeadLetter::read(stored(&event)).expect("a dead letter");
        let again = letter.event("S-dlq");
        let ids = again.headers().map(|headers| headers.get_all(FIRST_ID).count());
        assert_eq!((header(&again, FIRST_ID).as_deref(), ids), (Some("order-7"), Some(1)));
    }

    #[test]
    fn another_message_is_none() {
        assert!(DeadLetter::read(stored(&Event::new("a", "").header("X", "y"))).is_none());
    }
}
