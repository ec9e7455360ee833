//! The events of an atomic batch, and the ack for all of them.

use std::collections::HashSet;
use std::sync::Arc;

use async_nats::subject::Subject;
use natstream_connect::TraceContext;

use crate::event::Event;

/// nats-server takes no more events in a batch, unless it is configured otherwise.
pub(super) const MAX_EVENTS: usize = 1000;

/// Events that are stored all, one behind the other, or not at all.
///
/// Expectations of events are looked at when the batch is committed, against what the stream had before it. Only the first event
/// may have one of the stream's last sequence; one of a subject's last sequence belongs to the first event of that subject.
///
/// # Examples
///
/// ```
/// use eventbus::{AtomicBatch, Event};
///
/// let mut batch = AtomicBatch::new();
/// batch.add(Event::new("accounts.7", "-5").expect_last_subject_sequence(12));
/// batch.add(Event::new("accounts.8", "+5").expect_last_subject_sequence(9));
/// assert_eq!(batch.len(), 2);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a batch does nothing until it is committed"]
pub struct AtomicBatch {
    events: Vec<Event>,
}

/// The stream has all events of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AtomicAck {
    /// The stream that has them.
    pub stream: Arc<str>,
    /// The number of the last event in the stream; those before it have the numbers before. `None` when its own answer was
    /// lost, and the refusal of a second copy has shown that the first one is there.
    pub last_sequence: Option<u64>,
    /// How many there are.
    pub count: u64,
}

impl AtomicAck {
    /// The number of the first event in the stream, if that of the [last](Self::last_sequence) is known.
    #[must_use]
    pub fn first_sequence(&self) -> Option<u64> {
        Some((self.last_sequence? + 1).saturating_sub(self.count))
    }
}

impl AtomicBatch {
    /// A batch without events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event behind the others.
    pub fn add(&mut self, event: impl Into<Event>) -> &mut Self {
        self.events.push(event.into());
        self
    }

    /// How many events it has; at most 1000 can be committed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Has it no events?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Its events.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Its events, to be kept.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Its events take along where they are published in a trace.
    pub(super) fn in_trace(self) -> Self {
        match TraceContext::current() {
            Some(_) => self.events.into_iter().map(Event::in_trace).collect(),
            None => self,
        }
    }

    /// What a stream refuses as a duplicate when it knows this id, and never stores: no stream has a name with a dot, which the
    /// second event expects. nats-server looks at the first one's id before.
    pub(super) fn question(subject: &Subject, id: &str) -> Self {
        let known = Event::new(subject.clone(), "").message_id(id);
        let never = Event::new(subject.clone(), "").expect_stream("no.stream");
        [known, never].into_iter().collect()
    }

    /// The place of an event whose id an event before it has too.
    pub(super) fn repeated_id(&self) -> Option<usize> {
        let mut ids = HashSet::new();
        self.events
            .iter()
            .position(|event| event.own_message_id().is_some_and(|id| !ids.insert(id)))
    }

    /// Has any event an id of its own?
    pub(super) fn has_id(&self) -> bool {
        self.events.iter().any(Event::has_message_id)
    }

    /// The place of the last event without an id.
    pub(super) fn last_without_id(&self) -> Option<usize> {
        self.events.iter().rposition(|event| !event.has_message_id())
    }
}

impl<E: Into<Event>> FromIterator<E> for AtomicBatch {
    fn from_iter<I: IntoIterator<Item = E>>(events: I) -> Self {
        Self {
            events: events.into_iter().map(Into::into).collect(),
        }
    }
}

impl<E: Into<Event>> Extend<E> for AtomicBatch {
    fn extend<I: IntoIterator<Item = E>>(&mut self, events: I) {
        self.events.extend(events.into_iter().map(Into::into));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_within_a_batch_are_compared() {
        let event = |id: &str| Event::new("s", "").message_id(id);
        let batch: AtomicBatch = [event("a"), Event::new("s", ""), event("b"), event("a")]
            .into_iter()
            .collect();
        assert_eq!((batch.repeated_id(), batch.last_without_id()), (Some(3), Some(1)));
        assert!(batch.has_id());
        let plain: AtomicBatch = [Event::new("s", ""), Event::new("s", "")].into_iter().collect();
        assert_eq!((plain.repeated_id(), plain.last_without_id()), (None, Some(1)));
    }
}
