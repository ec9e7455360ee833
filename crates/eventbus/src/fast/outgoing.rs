//! Messages of a batch.

use std::io::Write as _;

use async_nats::header::{NATS_EXPECTED_LAST_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::message::OutboundMessage;
use async_nats::subject::Subject;
use async_nats::{HeaderMap, HeaderValue};
use bytes::{BufMut as _, Bytes, BytesMut};

use super::engine::{Content, Given, Id, Transmission};
use super::place::Place;

/// Reply subjects are cut from blocks of so many: an allocation for each block, none for a subject.
const SUBJECTS_A_BLOCK: usize = 256;

/// What follows the batch's own part of a reply subject at most: a sequence, an operation and the mark.
const END_LEN: usize = "18446744073709551615.0.$FI".len();

/// No stream has come so far. nats-server looks at ids before it looks at this.
const NEVER: u64 = i64::MAX as u64;

/// Makes messages.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// What the ids of batches begin with.
    batches: String,
    /// What all reply subjects begin with: the route, and the first letters of a batch's id.
    replies: String,
    /// After how many messages the stream is asked to tell how far it is, at most.
    flow: u16,
    /// The batch of [`prefix`](Self::prefix).
    batch: u64,
    /// What the reply subjects of a batch begin with, the last dot included.
    prefix: Vec<u8>,
    block: BytesMut,
    /// What all message ids begin with: nobody else has it. `None`: no id is added.
    ids: Option<String>,
}

impl Outgoing {
    pub(super) fn new(batches: String, flow: u16, ids: Option<String>) -> Self {
        Self {
            batches,
            replies: String::new(),
            flow,
            batch: 0,
            prefix: Vec::new(),
            block: BytesMut::new(),
            ids,
        }
    }

    /// Where answers go, before the first message.
    pub(super) fn set_route(&mut self, route: &str) {
        self.replies = format!("{route}.{}", self.batches);
    }

    /// The message that an answer belongs to: what is behind the route.
    pub(super) fn read(&self, rest: &str) -> Option<Place> {
        Place::read(rest, &self.batches)
    }

    pub(super) fn message(&mut self, transmission: &Transmission<'_>) -> OutboundMessage {
        let reply = Some(self.reply(transmission));
        let subject = transmission.subject.clone();
        let (payload, headers) = match transmission.content {
            Content::Event { payload, headers, id } => {
                let mut headers = headers.cloned();
                if let Some(id) = id.and_then(|given| self.id(given)) {
                    headers.get_or_insert_with(HeaderMap::new).insert(NATS_MESSAGE_ID, id);
                }
                (payload.clone(), headers)
            }
            Content::End => (Bytes::new(), None),
            Content::Question(id) => {
                let mut headers = HeaderMap::new();
                match id {
                    Id::Own(id) => headers.insert(NATS_MESSAGE_ID, id),
                    Id::Given(given) => self
                        .id(given)
                        .into_iter()
                        .for_each(|id| headers.insert(NATS_MESSAGE_ID, id)),
                }
                headers.insert(NATS_EXPECTED_LAST_SEQUENCE, HeaderValue::from(NEVER));
                (Bytes::new(), Some(headers))
            }
        };
        OutboundMessage {
            subject,
            reply,
            payload,
            headers,
        }
    }

    fn id(&self, Given(number): Given) -> Option<HeaderValue> {
        let ids = self.ids.as_ref()?;
        Some(HeaderValue::from(format!("{ids}.{number}")))
    }

    fn reply(&mut self, transmission: &Transmission<'_>) -> Subject {
        let place = transmission.place;
        if place.batch != self.batch {
            self.batch = place.batch;
            // A gap ends the batch: with `ok` the stream would go on without what is missing.
            self.prefix = format!("{}{:x}.{}.fail.", self.replies, place.batch, self.flow).into_bytes();
        }
        let most = self.prefix.len() + END_LEN;
        if self.block.capacity() < most {
            self.block = BytesMut::with_capacity(SUBJECTS_A_BLOCK * most);
        }
        self.block.put_slice(&self.prefix);
        write!((&mut self.block).writer(), "{}", place.sequence).expect("memory takes everything");
        self.block.put_u8(b'.');
        self.block.put_u8(place.operation.digit());
        self.block.put_slice(b".$FI");
        Subject::from_utf8(self.block.split().freeze()).expect("strings and digits are UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Operation;
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let mut outgoing = Outgoing::new("ab".to_owned(), 500, None);
        outgoing.set_route("_INBOX.x");
        for (batch, sequence, operation) in [
            (1, 1, Operation::Start),
            (1, 77, Operation::Append),
            (2, 1, Operation::Ask),
            (u64::MAX, u64::MAX - 1, Operation::End),
        ] {
            let place = Place {
                batch,
                sequence,
                operation,
            };
            let reply = outgoing.reply(&Transmission {
                place,
                subject: &Subject::from_static("s"),
                content: Content::End,
            });
            let rest = reply.strip_prefix("_INBOX.x.").expect("the route's");
            assert_eq!(outgoing.read(rest), Some(place), "{reply}");
        }
    }
}
