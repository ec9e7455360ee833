//! What comes back for an event.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;

/// The stream has the event.
///
/// What that is worth is the stream's to say: see [`topology::durability`](crate::topology).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PublishAck {
    /// The stream that has it.
    pub stream: Arc<str>,
    /// Its number in the stream. That of the first copy, when this one is a duplicate.
    pub sequence: u64,
    /// The stream had an event with this message id already, and kept that one.
    ///
    /// After a retry this is the ordinary case, and the event is counted once.
    pub is_duplicate: bool,
    /// The JetStream domain of the stream, if it has one.
    pub domain: Option<Arc<str>>,
}

/// The stream does not have the event, and says why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// In the manner of HTTP; 503 without a word when nobody listens on the subject.
    pub code: u16,
    /// nats-server's own number; 0 when nobody listens on the subject.
    pub err_code: u16,
    /// For people.
    pub description: String,
}

/// What a refusal means to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It may be different soon; nothing was stored.
    Later,
    /// As `Later`, and another copy of the same event is on its way through the cluster.
    InProcess,
    /// The stream is full, and was made to refuse what is new.
    Full,
    /// The event is larger than the stream takes.
    TooLarge,
    /// What the event expects of the stream is not so.
    WrongLast,
    /// It will not be different.
    Never,
}

/// Numbers of nats-server (`server/errors.json`).
mod err_code {
    /// The server that was asked is not the leader (any more).
    pub(super) const NOT_LEADER: u16 = 10009;
    pub(super) const MESSAGE_TOO_LARGE: u16 = 10054;
    pub(super) const WRONG_LAST_MESSAGE_ID: u16 = 10070;
    pub(super) const WRONG_LAST_SEQUENCE: u16 = 10071;
    /// Whatever the store says: limits, but also the disk.
    pub(super) const STORE_FAILED: u16 = 10077;
    /// The same id is being stored at this moment.
    pub(super) const DUPLICATE_IN_PROCESS: u16 = 10158;
    /// As `WRONG_LAST_SEQUENCE`, without the number.
    pub(super) const WRONG_LAST_SEQUENCE_CONSTANT: u16 = 10164;
}

impl Refusal {
    /// Nobody listens on the subject.
    pub(crate) fn no_responders() -> Self {
        Self {
            code: 503,
            err_code: 0,
            description: "no stream takes the subject at the moment".to_owned(),
        }
    }

    /// Did nobody listen on the subject?
    pub(crate) fn is_no_responders(&self) -> bool {
        self.code == 503 && self.err_code == 0
    }

    pub(crate) fn meaning(&self) -> Meaning {
        match self.err_code {
            err_code::DUPLICATE_IN_PROCESS => Meaning::InProcess,
            err_code::MESSAGE_TOO_LARGE => Meaning::TooLarge,
            err_code::NOT_LEADER => Meaning::Later,
            // The number is that of a broken disk too; only the words tell.
            err_code::STORE_FAILED if self.description.contains("maximum") => Meaning::Full,
            err_code::WRONG_LAST_MESSAGE_ID
            | err_code::WRONG_LAST_SEQUENCE
            | err_code::WRONG_LAST_SEQUENCE_CONSTANT => Meaning::WrongLast,
            _ if matches!(self.code, 429 | 503) => Meaning::Later,
            _ => Meaning::Never,
        }
    }
}

/// An answer, read in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Stored(Stored<'a>),
    Refused(Refusal),
}

/// [`PublishAck`], before anybody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    pub(crate) stream: Cow<'a, str>,
    pub(crate) sequence: u64,
    pub(crate) is_duplicate: bool,
    pub(crate) domain: Option<Cow<'a, str>>,
}

/// Reads an answer; `None` when it is none.
pub(crate) fn read(payload: &[u8]) -> Option<Reply<'_>> {
    if let Some(stored) = read_plain(payload) {
        return Some(Reply::Stored(stored));
    }
    #[derive(Deserialize)]
    struct Answer<'a> {
        error: Option<Failure>,
        // Not in place where JSON has escapes: nats-server writes `&` as `\u0026`.
        #[serde(borrow)]
        stream: Option<Cow<'a, str>>,
        seq: Option<u64>,
        #[serde(default)]
        duplicate: bool,
        #[serde(borrow)]
        domain: Option<Cow<'a, str>>,
    }
    #[derive(Deserialize)]
    struct Failure {
        #[serde(default)]
        code: u16,
        #[serde(default)]
        err_code: u16,
        #[serde(default)]
        description: String,
    }
    let answer: Answer<'_> = serde_json::from_slice(payload).ok()?;
    if let Some(Failure {
        code,
        err_code,
        description,
    }) = answer.error
    {
        // A service that listens on the subject too may answer with an error of its own, which says nothing of the stream.
        let is_servers = err_code > 0 && (400..600).contains(&code);
        return is_servers.then_some(Reply::Refused(Refusal {
            code,
            err_code,
            description,
        }));
    }
    Some(Reply::Stored(Stored {
        stream: answer.stream?,
        sequence: answer.seq?,
        is_duplicate: answer.duplicate,
        domain: answer.domain.filter(|domain| !domain.is_empty()),
    }))
}

/// The form of almost every answer, `{"stream":"ORDERS", "seq":7}`: a tenth of the time that a JSON reader takes.
fn read_plain(payload: &[u8]) -> Option<Stored<'_>> {
    let rest = payload.strip_prefix(br#"{"stream":""#)?;
    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    let stream = std::str::from_utf8(&rest[..end]).ok()?;
    let rest = rest[end..].strip_prefix(br#"","#)?;
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let digits = rest.strip_prefix(br#""seq":"#)?.strip_suffix(b"}")?;
    let is_odd = digits.len() > 1 && digits[0] == b'0';
    if digits.is_empty() || digits.len() > 18 || is_odd {
        return None;
    }
    let mut sequence = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        sequence = sequence * 10 + u64::from(digit - b'0');
    }
    Some(Stored {
        stream: Cow::Borrowed(stream),
        sequence,
        is_duplicate: false,
        domain: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(stream: &str, sequence: u64, is_duplicate: bool) -> Option<Reply<'_>> {
        Some(Reply::Stored(Stored {
            stream: Cow::Borrowed(stream),
            sequence,
            is_duplicate,
            domain: None,
        }))
    }

    #[test]
    fn acks_are_read() {
        assert_eq!(read(br#"{"stream":"ORDERS", "seq":7}"#), stored("ORDERS", 7, false));
        assert_eq!(read(br#"{"stream":"ORDERS","seq":7}"#), stored("ORDERS", 7, false));
        let duplicate = br#"{"stream":"ORDERS", "seq":7,"duplicate": true}"#;
        assert_eq!(read(duplicate), stored("ORDERS", 7, true));
        let domain = read(br#"{"stream":"ORDERS", "domain":"hub", "seq":18446744073709551615}"#);
        let Some(Reply::Stored(domain)) = domain else {
            panic!("{domain:?}")
        };
        assert_eq!((domain.domain.as_deref(), domain.sequence), (Some("hub"), u64::MAX));
        assert_eq!(read(br#"{"stream":"R\u0026D","seq":7}"#), stored("R&D", 7, false));
    }

    #[test]
    fn refusals_are_read_and_understood() {
        for (code, err_code, description, meaning) in [
            (429, 10167, "too many requests", Meaning::Later),
            (503, 10008, "JetStream system temporarily unavailable", Meaning::Later),
            (500, 10009, "not leader", Meaning::Later),
            (409, 10158, "duplicate message id is in process", Meaning::InProcess),
            (503, 10077, "maximum messages exceeded", Meaning::Full),
            (503, 10077, "write failed: no space left on device", Meaning::Later),
            (400, 10054, "message size exceeds maximum allowed", Meaning::TooLarge),
            (400, 10071, "wrong last sequence: 5", Meaning::WrongLast),
            (400, 10070, "wrong last msg ID: a", Meaning::WrongLast),
            (400, 10060, "expected stream does not match", Meaning::Never),
            (403, 10039, "JetStream not enabled for account", Meaning::Never),
        ] {
            let json = format!(
                r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"{description}"}},"stream":"S","seq":0}}"#
            );
            let Some(Reply::Refused(refusal)) = read(json.as_bytes()) else {
                panic!("{json}")
            };
            assert_eq!(refusal.meaning(), meaning, "{json}");
        }
        assert_eq!(Refusal::no_responders().meaning(), Meaning::Later);
        for error in [
            r#"{"error":{"code":500,"description":"mine"}}"#,
            r#"{"error":{"code":0,"err_code":10009}}"#,
            r#"{"error":{}}"#,
        ] {
            assert_eq!(read(error.as_bytes()), None, "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_from_the_network_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn what_looks_like_an_answer_is_no_danger(text in r#"\{"stream":"[A-Z"\\]{0,9}",? ?"seq":[0-9.-]{0,22}\}?"#) {
            if let Some(Reply::Stored(fast)) = read(text.as_bytes()) {
                let json: serde_json::Value = serde_json::from_str(&text).expect("what is read is JSON");
                prop_assert_eq!(json["seq"].as_u64(), Some(fast.sequence));
                prop_assert_eq!(json["stream"].as_str(), Some(&*fast.stream));
            }
        }
    }
}
