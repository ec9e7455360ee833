//! Which stream it was that was recorded.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which messages a directory has: a line of a [`ManifestLog`](crate::ManifestLog), written before the first of them.
///
/// Sequences mean something together with it only: a stream that is deleted and made again counts from 1, and behind another
/// filter there are other messages.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StreamSource {
    /// The stream.
    pub stream: String,
    /// When the stream was made, as nats-server says it.
    pub created: String,
    /// The consumer.
    pub consumer: String,
    /// The subjects that the consumer is limited to, sorted; none for all.
    pub filters: Vec<String>,
    /// What was acked before: messages behind this sequence are recorded.
    pub after: u64,
}

impl StreamSource {
    /// Are these the same messages?
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.stream, &self.created, &self.consumer, &self.filters)
            == (&other.stream, &other.created, &other.consumer, &other.filters)
    }
}

impl fmt::Display for StreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "consumer `{}` of stream `{}` of {}",
            self.consumer, self.stream, self.created
        )?;
        for (index, filter) in self.filters.iter().enumerate() {
            write!(f, "{}`{filter}`", if index == 0 { ", only " } else { ", " })?;
        }
        Ok(())
    }
}
