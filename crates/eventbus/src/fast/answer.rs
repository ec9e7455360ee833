//! What a stream says to a batch.

use serde::Deserialize;

use crate::reply::Refusal;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has all up to `told`, and tells more after each `flow` messages.
    Flow { told: u64, flow: u64 },
    /// Messages are missing; it ends the batch.
    Gap,
    /// It refuses this message, and ends the batch before it.
    Failed { sequence: u64, refusal: Refusal },
    /// The batch is over, and it has so many of its messages.
    Ended { count: u64 },
    /// It has the message, and knows nothing of batches.
    Stored,
    /// It has a message with this id from before.
    Duplicate,
    /// It does not have the message.
    Refused(Refusal),
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

impl Failure {
    /// A service that listens on the subject too may answer with an error of its own, which says nothing of the stream.
    fn refusal(self) -> Option<Refusal> {
        let Self {
            code,
            err_code,
            description,
        } = self;
        let is_servers = err_code > 0 && (400..600).contains(&code);
        is_servers.then_some(Refusal {
            code,
            err_code,
            description,
        })
    }
}

impl Answer {
    /// Reads an answer; `None` when it is none.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Raw {
            r#type: Option<String>,
            stream: Option<String>,
            seq: Option<u64>,
            msgs: Option<u64>,
            batch: Option<String>,
            count: Option<u64>,
            #[serde(default)]
            duplicate: bool,
            error: Option<Failure>,
        }
        let raw: Raw = serde_json::from_slice(payload).ok()?;
        match raw.r#type.as_deref() {
            Some("ack") => Some(Self::Flow {
                told: raw.seq?,
                flow: raw.msgs?,
            }),
            Some("gap") => Some(Self::Gap),
            Some("err") => Some(Self::Failed {
                sequence: raw.seq?,
                refusal: raw.error?.refusal()?,
            }),
            Some(_) => None,
            None if raw.error.is_some() => raw.error?.refusal().map(Self::Refused),
            None if raw.duplicate => (raw.stream.is_some() && raw.seq.is_some()).then_some(Self::Duplicate),
            None if raw.batch.is_some() => Some(Self::Ended { count: raw.count? }),
            None => (raw.stream.is_some() && raw.seq.is_some()).then_some(Self::Stored),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_read() {
        let refusal = Refusal {
            code: 400,
            err_code: 10208,
            description: "unknown".to_owned(),
        };
        let error = r#""error":{"code":400,"err_code":10208,"description":"unknown"}"#;
        for (json, expected) in [
            (
                r#"{"type":"ack","seq":0,"msgs":500}"#.to_owned(),
                Some(Answer::Flow { told: 0, flow: 500 }),
            ),
            (r#"{"type":"gap","last_seq":5,"seq":7}"#.to_owned(), Some(Answer::Gap)),
            (
                format!(r#"{{"type":"err","seq":7,{error}}}"#),
                Some(Answer::Failed {
                    sequence: 7,
                    refusal: refusal.clone(),
                }),
            ),
            (
                r#"{"stream":"S","seq":17,"batch":"b1","count":7}"#.to_owned(),
                Some(Answer::Ended { count: 7 }),
            ),
            (r#"{"stream":"S","seq":17}"#.to_owned(), Some(Answer::Stored)),
            (
                r#"{"stream":"S", "seq":17,"duplicate": true,"batch":"b1","count":1}"#.to_owned(),
                Some(Answer::Duplicate),
            ),
            (
                format!(r#"{{{error},"stream":"S","seq":0}}"#),
                Some(Answer::Refused(refusal)),
            ),
            (r#"{"error":{"message":"mine"}}"#.to_owned(), None),
            (r#"{"type":"other"}"#.to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(Answer::read(json.as_bytes()), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn nothing_from_the_network_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Answer::read(&bytes);
        }
    }
}
