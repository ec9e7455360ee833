//! Attempts as messages.

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::message::OutboundMessage;
use async_nats::subject::Subject;
use async_nats::{HeaderMap, HeaderValue};
use bytes::{BufMut as _, BytesMut};

use crate::engine::{Token, Transmission};

/// Reply subjects are cut from blocks of so many: two allocations for each block, none for a subject.
const SUBJECTS_A_BLOCK: usize = 256;

/// The longest token: 64 bits in hexadecimal digits.
const TOKEN_LEN: usize = 16;

/// What the id of the bus adds to a message at most: the frame, the header's name, a prefix of so many bytes, a dot and 20
/// digits.
pub(crate) fn id_len(prefix: usize) -> usize {
    "NATS/1.0\r\nNats-Msg-Id: \r\n\r\n".len() + prefix + 1 + 20
}

/// Makes messages of attempts.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// What all reply subjects begin with, the last dot included.
    replies: String,
    block: BytesMut,
    /// What all ids begin with: nobody else has it. `None`: no id is added.
    ids: Option<String>,
}

impl Outgoing {
    /// `ids`: nobody else gives ids that begin with this.
    pub(crate) fn new(ids: Option<String>) -> Self {
        Self {
            replies: String::new(),
            block: BytesMut::new(),
            ids,
        }
    }

    /// Where answers go, before the first message.
    pub(crate) fn set_route(&mut self, route: &str) {
        self.replies = format!("{route}.");
    }

    pub(crate) fn message(&mut self, attempt: Transmission<'_>) -> OutboundMessage {
        let mut headers = attempt.headers.cloned();
        if let (Some(number), Some(ids)) = (attempt.id, &self.ids) {
            let id = HeaderValue::from(format!("{ids}.{number}"));
            headers.get_or_insert_with(HeaderMap::new).insert(NATS_MESSAGE_ID, id);
        }
        OutboundMessage {
            subject: attempt.subject.clone(),
            reply: Some(self.reply(attempt.token)),
            payload: attempt.payload.clone(),
            headers,
        }
    }

    fn reply(&mut self, token: Token) -> Subject {
        let most = self.replies.len() + TOKEN_LEN;
        if self.block.capacity() < most {
            self.block = BytesMut::with_capacity(SUBJECTS_A_BLOCK * most);
        }
        self.block.put_slice(self.replies.as_bytes());
        token.write(&mut self.block);
        let subject = self.block.split().freeze();
        Subject::from_utf8(subject).expect("a string and digits are UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_subjects_end_with_their_tokens() {
        let mut outgoing = Outgoing::new(Some("P".to_owned()));
        outgoing.set_route("_INBOX.x");
        for number in 0..1000_u64 {
            let token = Token::read(&format!("{number:x}")).expect("a token");
            assert_eq!(outgoing.reply(token).as_str(), format!("_INBOX.x.{number:x}"));
        }
    }
}
