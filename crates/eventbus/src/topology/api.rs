//! Questions to JetStream's API.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use async_nats::client::{Request, RequestError, RequestErrorKind};
use natstream_connect::{Connection, Driver};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::spec::Difference;

/// Why a stream could not be looked at or changed.
#[derive(Debug)]
pub struct TopologyError {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: TopologyErrorKind,
    stream: String,
    differences: Vec<Difference>,
    refusal: Option<crate::Refusal>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TopologyErrorKind {
    /// The connection is closed, or could not take the question.
    Connection,
    /// The stream is there and is not as it should be; [`TopologyError::differences`] says where. Nothing was changed.
    Differs,
    /// A name that no stream or consumer can have: it is empty, too long, or has spaces, dots, slashes or wildcards. Nothing
    /// was asked.
    InvalidName,
    /// JetStream is not enabled for this account, or at all.
    NotEnabled,
    /// There is no such stream, or the stream has no such consumer.
    NotFound,
    /// The answer cannot be read.
    Protocol,
    /// nats-server refuses; [`TopologyError::refusal`] has its words.
    Rejected,
    /// No answer in time: a cluster without a leader, or a user who may not ask.
    Timeout,
}

impl TopologyError {
    fn new(kind: TopologyErrorKind, stream: &str) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                stream: stream.to_owned(),
                differences: Vec::new(),
                refusal: None,
                source: None,
            }),
        }
    }

    pub(super) fn differs(stream: &str, differences: Vec<Difference>) -> Self {
        let mut error = Self::new(TopologyErrorKind::Differs, stream);
        error.inner.differences = differences;
        error
    }

    /// A stream would get its own dead letters.
    pub(crate) fn overlaps(stream: &str) -> Self {
        let problem = "the stream takes the subject of its own dead letters";
        Self::because(TopologyErrorKind::Rejected, stream, problem)
    }

    pub(super) fn because(
        kind: TopologyErrorKind,
        stream: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let mut error = Self::new(kind, stream);
        error.inner.source = Some(source.into());
        error
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> TopologyErrorKind {
        self.inner.kind
    }

    /// The stream that was meant; empty for a list.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.inner.stream
    }

    /// Where the stream is not as it should be.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        &self.inner.differences
    }

    /// What nats-server said.
    #[must_use]
    pub fn refusal(&self) -> Option<&crate::Refusal> {
        self.inner.refusal.as_ref()
    }
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            stream,
            differences,
            refusal,
            ..
        } = &*self.inner;
        let what = match kind {
            TopologyErrorKind::Connection => "JetStream could not be asked",
            TopologyErrorKind::Differs => "the stream is not as it should be",
            TopologyErrorKind::InvalidName => "no stream or consumer can have this name",
            TopologyErrorKind::NotEnabled => "JetStream is not enabled for this account",
            TopologyErrorKind::NotFound => "there is no such stream or consumer",
            TopologyErrorKind::Protocol => "the answer of JetStream cannot be read",
            TopologyErrorKind::Rejected => "JetStream refuses",
            TopologyErrorKind::Timeout => "JetStream has not answered",
        };
        f.write_str(what)?;
        if !stream.is_empty() {
            write!(f, " (`{stream}`)")?;
        }
        if let Some(refusal) = refusal {
            write!(f, ": {} ({})", refusal.description, refusal.err_code)?;
        }
        for (index, difference) in differences.iter().enumerate() {
            write!(f, "{} {difference}", if index == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

impl Error for TopologyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

/// Numbers of nats-server.
const NOT_ENABLED: [u16; 2] = [10039, 10076];
const STREAM_NOT_FOUND: u16 = 10059;
const CONSUMER_NOT_FOUND: u16 = 10014;
const NO_MESSAGE: u16 = 10037;

/// Does the stream have no such message?
pub(super) fn is_no_message(error: &TopologyError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.err_code == NO_MESSAGE)
}

/// The longest name that nats-server takes, in bytes.
const LONGEST_NAME: usize = 255;

/// How long one answer may take.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// How long a cluster may be without a leader.
const ELECTION: Duration = Duration::from_secs(10);

/// The pause before asking again.
const PAUSE: Duration = Duration::from_millis(250);

/// A question about a stream, or about all of them.
pub(super) async fn ask<T: DeserializeOwned>(
    connection: &Connection,
    operation: &str,
    stream: &str,
    question: &Value,
) -> Result<T, TopologyError> {
    if stream.is_empty() {
        return ask_at(connection, &format!("STREAM.{operation}"), stream, question).await;
    }
    check_name(stream)?;
    ask_at(connection, &format!("STREAM.{operation}.{stream}"), stream, question).await
}

/// Names are parts of subjects and of paths (ADR-6): nats-server would not even hear a question about another one.
pub(super) fn check_name(name: &str) -> Result<(), TopologyError> {
    let is_forbidden = |letter: char| letter.is_whitespace() || letter.is_control() || ".*>/\\".contains(letter);
    if name.is_empty() || name.len() > LONGEST_NAME || name.contains(is_forbidden) {
        return Err(TopologyError::new(TopologyErrorKind::InvalidName, name));
    }
    Ok(())
}

/// A question about a consumer of a stream.
pub(super) async fn ask_consumer<T: DeserializeOwned>(
    connection: &Connection,
    operation: &str,
    stream: &str,
    consumer: &str,
    question: &Value,
) -> Result<T, TopologyError> {
    check_name(stream)?;
    check_name(consumer)?;
    let path = format!("CONSUMER.{operation}.{stream}.{consumer}");
    ask_at(connection, &path, stream, question).await
}

/// A question about all consumers of a stream.
pub(super) async fn ask_consumers<T: DeserializeOwned>(
    connection: &Connection,
    operation: &str,
    stream: &str,
    question: &Value,
) -> Result<T, TopologyError> {
    check_name(stream)?;
    ask_at(connection, &format!("CONSUMER.{operation}.{stream}"), stream, question).await
}

/// What subjects of JetStream's API begin with.
pub(crate) fn prefix(connection: &Connection) -> String {
    match connection.jetstream_domain() {
        Some(domain) => format!("$JS.{domain}.API"),
        None => "$JS.API".to_owned(),
    }
}

/// Asks until there is an answer: a cluster that elects a leader says that it has none.
pub(super) async fn ask_at<T: DeserializeOwned>(
    connection: &Connection,
    path: &str,
    stream: &str,
    question: &Value,
) -> Result<T, TopologyError> {
    let began = Driver::clock();
    loop {
        let answer = ask_once(connection, path, stream, question).await;
        let is_leaderless = match &answer {
            Err(error) => error.refusal().is_some_and(|refusal| refusal.code == 503),
            Ok(_) => false,
        };
        if !is_leaderless || began.elapsed() > ELECTION {
            return answer;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask_once<T: DeserializeOwned>(
    connection: &Connection,
    path: &str,
    stream: &str,
    question: &Value,
) -> Result<T, TopologyError> {
    let subject = format!("{}.{path}", prefix(connection));
    let body = if question.is_null() {
        String::new()
    } else {
        question.to_string()
    };
    let request = Request::new().payload(body.into()).timeout(Some(ANSWER));
    let message = connection.nats().send_request(subject, request).await;
    let message = message.map_err(|error| unanswered(stream, error))?;
    read(&message.payload, stream)
}

pub(super) fn unanswered(stream: &str, error: RequestError) -> TopologyError {
    let kind = match error.kind() {
        RequestErrorKind::NoResponders => TopologyErrorKind::NotEnabled,
        RequestErrorKind::TimedOut => TopologyErrorKind::Timeout,
        _ => TopologyErrorKind::Connection,
    };
    TopologyError::because(kind, stream, error)
}

fn read<T: DeserializeOwned>(payload: &[u8], stream: &str) -> Result<T, TopologyError> {
    #[derive(Deserialize)]
    struct Failed {
        error: Failure,
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
    if let Ok(Failed { error }) = serde_json::from_slice::<Failed>(payload) {
        let kind = match error.err_code {
            code if NOT_ENABLED.contains(&code) => TopologyErrorKind::NotEnabled,
            STREAM_NOT_FOUND | CONSUMER_NOT_FOUND => TopologyErrorKind::NotFound,
            _ => TopologyErrorKind::Rejected,
        };
        let mut failed = TopologyError::new(kind, stream);
        failed.inner.refusal = Some(crate::Refusal {
            code: error.code,
            err_code: error.err_code,
            description: error.description,
        });
        return Err(failed);
    }
    serde_json::from_slice(payload).map_err(|error| TopologyError::because(TopologyErrorKind::Protocol, stream, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parts_of_subjects() {
        for name in ["", "a.b", "a b", "a*", ">", "a/b", "a\\b", "a\n", &"x".repeat(256)] {
            let error = check_name(name).expect_err("no name");
            assert_eq!(error.kind(), TopologyErrorKind::InvalidName, "{name}");
        }
        for name in ["ORDERS", "ä-1_$KV", &"x".repeat(255)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }
}
