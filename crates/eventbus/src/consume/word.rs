//! What is said to a consumer of a message.

use bytes::Bytes;

/// The longest reason of a termination that is sent, in bytes: nats-server passes it on in an advisory.
const LONGEST_REASON: usize = 256;

/// The pause that a message which is given back has, in nanoseconds: somebody else may have it at once.
pub(super) const GIVE_BACK: u64 = 1_000_000;

/// One word about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// It is done.
    Ack,
    /// It is to be delivered again, after so many nanoseconds. Never without a pause: nats-server would deliver it again at
    /// once, and does not apply the consumer's own back-off to it.
    Nak { pause: u64 },
    /// It is never to be delivered again.
    Term { reason: String },
    /// It is being handled: its ack wait begins anew.
    InProgress,
}

impl Word {
    pub(crate) fn body(&self) -> Bytes {
        match self {
            Self::Ack => Bytes::from_static(b"+ACK"),
            Self::Nak { pause } => format!(r#"-NAK {{"delay":{}}}"#, (*pause).clamp(1, i64::MAX as u64)).into(),
            Self::Term { reason } => {
                let reason: String = reason.chars().filter(|letter| !letter.is_control()).collect();
                let mut end = LONGEST_REASON.min(reason.len());
                while !reason.is_char_boundary(end) {
                    end -= 1;
                }
                match reason[..end].trim() {
                    "" => Bytes::from_static(b"+TERM"),
                    reason => format!("+TERM {reason}").into(),
                }
            }
            Self::InProgress => Bytes::from_static(b"+WPI"),
        }
    }

    /// Is it sent until the consumer has answered? One that asks for another delivery is not: sent twice, it may hit the
    /// delivery after the one that it is about, which somebody else handles by then.
    pub(crate) fn is_confirmed(&self) -> bool {
        matches!(self, Self::Ack | Self::Term { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_server() {
        let reason = |reason: &str| Word::Term {
            reason: reason.to_owned(),
        };
        for (word, body) in [
            (Word::Ack, "+ACK"),
            (Word::Nak { pause: 1_500 }, r#"-NAK {"delay":1500}"#),
            (Word::Nak { pause: 0 }, r#"-NAK {"delay":1}"#),
            (reason("no such\r\n customer"), "+TERM no such customer"),
            (reason(" "), "+TERM"),
            (Word::InProgress, "+WPI"),
        ] {
            assert_eq!(word.body(), body.as_bytes(), "{word:?}");
        }
        let long = reason(&"ä".repeat(1000)).body();
        assert!(long.len() <= LONGEST_REASON + 6 && std::str::from_utf8(&long).is_ok());
    }
}
