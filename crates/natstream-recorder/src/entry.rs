//! A record that owns its parts.

use std::time::SystemTime;

use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use stream_sinks::Record;

/// What one costs beside its bytes.
const OVERHEAD: usize = 128;

/// A record on its way to a sink: a payload, and what is known about it.
///
/// A [`Message`] of async-nats becomes one without copying, and so do bytes, which have no more than their payload.
///
/// ```
/// use natstream_recorder::Entry;
///
/// let entry = Entry::new("42 C").subject("sensors.boiler").sequence(7);
/// ```
#[derive(Clone, Debug)]
pub struct Entry {
    payload: Bytes,
    subject: Option<Subject>,
    headers: Option<HeaderMap>,
    sequence: Option<u64>,
    time: Option<SystemTime>,
}

impl Entry {
    /// A record of which nothing but the payload is known.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            subject: None,
            headers: None,
            sequence: None,
            time: None,
        }
    }

    /// Where it came from.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<Subject>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Its headers.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = Some(headers);
        self
    }

    /// Its number at its source, which must grow from record to record: see [`Record::sequence`].
    #[must_use]
    pub fn sequence(mut self, sequence: u64) -> Self {
        self.sequence = Some(sequence);
        self
    }

    /// When it was made, or arrived. Without it, formats that write a time take that of the append.
    #[must_use]
    pub fn time(mut self, time: SystemTime) -> Self {
        self.time = Some(time);
        self
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Without the buffers that it was read into: those hold many messages, and live as long as one of them.
    pub(crate) fn detached(self) -> Self {
        Self {
            payload: Bytes::copy_from_slice(&self.payload),
            subject: self.subject.map(|subject| Subject::from(subject.as_str())),
            ..self
        }
    }

    pub(crate) fn arrived(&self) -> Option<SystemTime> {
        self.time
    }

    /// Bytes that it takes in memory, roughly.
    pub(crate) fn size(&self) -> usize {
        let headers = self.headers.as_ref().map_or(0, |headers| {
            let values = headers.iter().flat_map(|(name, values)| {
                let name: &str = name.as_ref();
                values
                    .iter()
                    .map(move |value| name.len() + value.as_str().len() + OVERHEAD)
            });
            values.sum()
        });
        OVERHEAD + self.payload.len() + self.subject.as_ref().map_or(0, |subject| subject.len()) + headers
    }

    /// The record; its headers are put into `headers`.
    pub(crate) fn record<'a>(&'a self, headers: &'a mut Vec<(&'a str, &'a str)>) -> Record<'a> {
        let mut record = Record::new(&self.payload);
        if let Some(map) = &self.headers {
            *headers = sorted(map);
            record = record.headers(headers);
        }
        if let Some(subject) = &self.subject {
            record = record.subject(subject);
        }
        if let Some(sequence) = self.sequence {
            record = record.sequence(sequence);
        }
        match self.time {
            Some(time) => record.time(time),
            None => record,
        }
    }
}

/// All headers, those of a name in their order. Names have no known order in async-nats: the same message gives the same
/// record.
pub(crate) fn sorted(map: &HeaderMap) -> Vec<(&str, &str)> {
    let pairs = map.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| (name, value.as_str()))
    });
    let mut headers: Vec<_> = pairs.collect();
    headers.sort_by_key(|(name, _)| *name);
    headers
}

impl From<Message> for Entry {
    fn from(message: Message) -> Self {
        Self {
            payload: message.payload,
            subject: Some(message.subject),
            headers: message.headers,
            sequence: None,
            time: None,
        }
    }
}

impl From<Bytes> for Entry {
    fn from(payload: Bytes) -> Self {
        Self::new(payload)
    }
}

impl From<Vec<u8>> for Entry {
    fn from(payload: Vec<u8>) -> Self {
        Self::new(payload)
    }
}

impl From<String> for Entry {
    fn from(payload: String) -> Self {
        Self::new(payload)
    }
}

impl From<&'static str> for Entry {
    fn from(payload: &'static str) -> Self {
        Self::new(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_in_the_same_order_each_time() {
        let mut map = HeaderMap::new();
        for (name, value) in [("b", "1"), ("a", "2"), ("b", "3"), ("c", "4")] {
            map.append(name, value);
        }
        let entry = Entry::new("x").headers(map);
        let mut headers = Vec::new();
        let record = entry.record(&mut headers);
        assert_eq!(record.headers_of(), [("a", "2"), ("b", "1"), ("b", "3"), ("c", "4")]);
        assert_eq!(entry.size(), OVERHEAD + 1 + 4 * (OVERHEAD + 2));
    }
}
