//! Why events were not delivered.

use std::collections::BTreeMap;

use natstream::PublishError;
use natstream::eventbus::{AtomicError, PublishErrorKind};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::session;

/// Failures by their kinds.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<String, Kind>>);

#[derive(Debug)]
struct Kind {
    count: u64,
    /// The first of them, as an example.
    text: String,
    may_be_stored: u64,
    hint: Option<&'static str>,
}

/// What to do about events that were not delivered.
fn hint(kind: PublishErrorKind) -> Option<&'static str> {
    match kind {
        PublishErrorKind::NoResponders => Some("`natstream bus stream add` makes a stream that takes the subject"),
        PublishErrorKind::NotPermitted => Some(session::PERMISSIONS),
        PublishErrorKind::StreamFull => Some("`natstream bus stream info` shows the limits of the stream"),
        PublishErrorKind::Timeout => Some("a larger --deadline tries longer"),
        _ => None,
    }
}

/// A flaw is the cause of its error.
fn with_cause(error: &impl std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl Tally {
    pub(super) fn note(&self, error: &PublishError) {
        let kind = format!("{:?}", error.kind());
        self.add(kind, error, 1, error.may_be_stored(), hint(error.kind()));
    }

    /// All events of a batch.
    pub(super) fn note_batch(&self, error: &AtomicError) {
        let events = error.batch().len() as u64;
        self.add(
            format!("{:?}", error.kind()),
            error,
            events,
            error.may_be_stored(),
            None,
        );
    }

    fn add(
        &self,
        kind: String,
        error: &impl std::error::Error,
        events: u64,
        may_be_stored: bool,
        hint: Option<&'static str>,
    ) {
        let mut kinds = self.0.lock();
        let kind = kinds.entry(kind).or_insert_with(|| Kind {
            count: 0,
            text: with_cause(error),
            may_be_stored: 0,
            hint,
        });
        kind.count += events;
        kind.may_be_stored += if may_be_stored { events } else { 0 };
    }

    pub(super) fn json(&self) -> Value {
        let kinds = self.0.lock();
        let kinds = kinds.iter().map(|(kind, reason)| {
            json!({
                "kind": kind,
                "count": reason.count,
                "may_be_stored": reason.may_be_stored,
                "example": reason.text,
            })
        });
        kinds.collect()
    }

    /// The failure of the command, unless there was none.
    pub(super) fn failure(&self) -> Option<Failure> {
        let kinds = self.0.lock();
        let all: u64 = kinds.values().map(|kind| kind.count).sum();
        let doubtful: u64 = kinds.values().map(|kind| kind.may_be_stored).sum();
        let reasons: Vec<String> = kinds
            .values()
            .map(|kind| format!("{} × {}", kind.count, kind.text))
            .collect();
        let text = format!("{all} events were not delivered: {}", reasons.join("; "));
        let mut hints: Vec<String> = kinds.values().filter_map(|kind| kind.hint.map(str::to_owned)).collect();
        if doubtful > 0 {
            hints.push(format!(
                "{doubtful} of them may be stored all the same; with --msg-id-prefix they can be published again safely"
            ));
        }
        let failure = Failure::text(Exit::Incomplete, text);
        (all > 0).then(|| match hints.is_empty() {
            true => failure,
            false => failure.with_hint(hints.join("; ")),
        })
    }
}
