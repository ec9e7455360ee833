//! Messages of a stream by subject or number, from whichever server has them, and with patience.

#[cfg(feature = "object")]
use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::HeaderValue;
use async_nats::client::{Request, RequestErrorKind};
use bytes::Bytes;
use natstream_connect::Driver;
#[cfg(feature = "object")]
use serde::Deserialize;
use serde_json::{Value, json};

use super::stored::{self, Stored};
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
        patiently(|| stored::get(&self.connection, stream, question)).await
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
