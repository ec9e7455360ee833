//! Single messages of a stream: looked up, counted, removed.

#[cfg(feature = "object")]
use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use natstream_connect::Driver;
use serde::Deserialize;
#[cfg(feature = "object")]
use serde_json::Map;
use serde_json::{Value, json};

use super::stored::Stored;
use super::{Topology, TopologyError, TopologyErrorKind, api};

/// Who is asked for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Any server that has the stream: it may be behind the leader.
    Any,
    /// The leader: it knows all that was acked.
    Leader,
}

/// How long nobody may answer: longer than an election takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// nats-server's number for a subject without a message.
const NO_MESSAGE: u16 = 10037;

impl Topology {
    /// The last message of a subject.
    pub(crate) async fn last(
        &self,
        stream: &str,
        subject: &str,
        reads: Reads,
    ) -> Result<Option<Stored>, TopologyError> {
        if reads == Reads::Any
            && let Some(found) = self
                .direct(stream, &format!("{stream}.{subject}"), Bytes::new())
                .await?
        {
            return Ok(found);
        }
        self.of_leader(stream, &json!({ "last_by_subj": subject })).await
    }

    /// One message by its number.
    #[cfg(feature = "kv")]
    pub(crate) async fn message(
        &self,
        stream: &str,
        sequence: u64,
        reads: Reads,
    ) -> Result<Option<Stored>, TopologyError> {
        let question = json!({ "seq": sequence });
        if reads == Reads::Any
            && let Some(found) = self.direct(stream, stream, question.to_string().into()).await?
        {
            return Ok(found);
        }
        self.of_leader(stream, &question).await
    }

    /// Removes all messages of a subject.
    #[cfg(feature = "object")]
    pub(crate) async fn purge(&self, stream: &str, subject: &str) -> Result<u64, TopologyError> {
        #[derive(Deserialize)]
        struct Purged {
            #[serde(default)]
            purged: u64,
        }
        let question = json!({ "filter": subject });
        let purged: Purged = patiently(|| api::ask(&self.connection, "PURGE", stream, &question)).await?;
        Ok(purged.purged)
    }

    /// The subjects of a filter that have messages, with how many they have: some of them, beginning at `offset`.
    #[cfg(feature = "object")]
    pub(crate) async fn subjects(
        &self,
        stream: &str,
        filter: &str,
        offset: usize,
    ) -> Result<BTreeMap<String, u64>, TopologyError> {
        #[derive(Deserialize)]
        struct Answer {
            state: State,
        }
        #[derive(Deserialize)]
        struct State {
            #[serde(default)]
            subjects: Option<BTreeMap<String, u64>>,
        }
        let question = json!({ "subjects_filter": filter, "offset": offset });
        let answer: Answer = patiently(|| api::ask(&self.connection, "INFO", stream, &question)).await?;
        Ok(answer.state.subjects.unwrap_or_default())
    }

    /// Removes one message.
    #[cfg(feature = "object")]
    pub(crate) async fn remove(&self, stream: &str, sequence: u64) -> Result<(), TopologyError> {
        let path = format!("STREAM.MSG.DELETE.{stream}");
        let question = json!({ "seq": sequence, "no_erase": true });
        let _: Map<String, Value> = api::ask_at(&self.connection, &path, stream, &question).await?;
        Ok(())
    }

    /// `None` when nobody gives messages directly: the stream does not allow it, is not there, or has no leader.
    async fn direct(&self, stream: &str, path: &str, question: Bytes) -> Result<Option<Option<Stored>>, TopologyError> {
        let subject = format!("{}.DIRECT.GET.{path}", api::prefix(&self.connection));
        let ask = || async {
            let request = Request::new().payload(question.clone()).timeout(Some(api::ANSWER));
            match self.connection.nats().send_request(subject.clone(), request).await {
                Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(None),
                Err(error) => Err(api::unanswered(stream, error)),
                Ok(message) => Ok(Some(message)),
            }
        };
        let Some(message) = patiently(ask).await? else {
            return Ok(None);
        };
        match message.status.map(|status| status.as_u16()) {
            None => {}
            Some(404) => return Ok(Some(None)),
            // The leader says why in words that can be read.
            Some(_) => return Ok(None),
        }
        let unreadable =
            || TopologyError::because(TopologyErrorKind::Protocol, stream, "a direct answer has no number");
        let headers = message.headers.ok_or_else(unreadable)?;
        let text = |name: &str| headers.get(name).map(HeaderValue::as_str);
        Ok(Some(Some(Stored {
            subject: text("Nats-Subject").ok_or_else(unreadable)?.to_owned(),
            sequence: text("Nats-Sequence")
                .and_then(|number| number.parse().ok())
                .ok_or_else(unreadable)?,
            stored_at: text("Nats-Time-Stamp")
                .and_then(|time| time.parse().ok())
                .ok_or_else(unreadable)?,
            payload: message.payload,
            headers,
        })))
    }

    async fn of_leader(&self, stream: &str, question: &Value) -> Result<Option<Stored>, TopologyError> {
        #[derive(Deserialize)]
        struct Answer {
            message: Encoded,
        }
        #[derive(Deserialize)]
        struct Encoded {
            subject: String,
            seq: u64,
            time: Timestamp,
            #[serde(default)]
            hdrs: String,
            #[serde(default)]
            data: String,
        }
        let path = format!("STREAM.MSG.GET.{stream}");
        let ask = || api::ask_at::<Answer>(&self.connection, &path, stream, question);
        let answer = patiently(ask).await;
        let message = match answer {
            Err(error) if error.refusal().is_some_and(|refusal| refusal.err_code == NO_MESSAGE) => return Ok(None),
            Err(error) => return Err(error),
            Ok(answer) => answer.message,
        };
        let unreadable = |error| TopologyError::because(TopologyErrorKind::Protocol, stream, error);
        Ok(Some(Stored {
            headers: parse(&STANDARD.decode(message.hdrs).map_err(unreadable)?),
            payload: STANDARD.decode(message.data).map_err(unreadable)?.into(),
            subject: message.subject,
            sequence: message.seq,
            stored_at: message.time,
        }))
    }
}

/// Asks again where nobody has answered: for what may be asked twice. A lost connection, and a cluster without a leader, look
/// like this.
async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, TopologyError>
where
    F: Future<Output = Result<T, TopologyError>>,
{
    let began = Driver::clock();
    loop {
        match ask().await {
            Err(error) if error.kind() == TopologyErrorKind::Timeout && began.elapsed() < PATIENCE => {}
            answer => return answer,
        }
    }
}

/// Headers as they stand in a stream. What is none is left out.
fn parse(block: &[u8]) -> HeaderMap {
    let text = String::from_utf8_lossy(block);
    let mut headers = HeaderMap::new();
    for line in text.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let name = HeaderName::from_str(name);
        let value = HeaderValue::from_str(value.trim());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_are_read() {
        let headers = parse(b"NATS/1.0\r\nKV-Operation: DEL\r\nA:1\r\nA: 2\r\nnone\r\n\r\n");
        assert_eq!(headers.get("KV-Operation").map(HeaderValue::as_str), Some("DEL"));
        let all: Vec<&str> = headers.get_all("A").map(HeaderValue::as_str).collect();
        assert_eq!(all, ["1", "2"]);
    }

    proptest! {
        #[test]
        fn nothing_from_the_network_panics(block in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&block);
        }
    }
}
