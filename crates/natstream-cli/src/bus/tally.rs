//! Why events were not delivered.

use std::collections::BTreeMap;

use natstream::PublishError;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};

/// Failures by their kinds.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<String, Kind>>);

#[derive(Debug)]
struct Kind {
    count: u64,
    /// The first of them, as an example.
    text: String,
    may_be_stored: u64,
}

/// A flaw is the cause of its error.
fn with_cause(error: &PublishError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl Tally {
    pub(super) fn note(&self, error: &PublishError) {
        let mut kinds = self.0.lock();
        let kind = kinds.entry(format!("{:?}", error.kind())).or_insert_with(|| Kind {
            count: 0,
            text: with_cause(error),
            may_be_stored: 0,
        });
        kind.count += 1;
        kind.may_be_stored += u64::from(error.may_be_stored());
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
        let failure = Failure::text(Exit::Incomplete, text);
        (all > 0).then(|| match doubtful {
            0 => failure,
            n => failure.with_hint(format!(
                "{n} of them may be stored all the same; with --msg-id-prefix they can be published again safely"
            )),
        })
    }
}
