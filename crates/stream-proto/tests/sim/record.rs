//! What really happened, for the checks: written by the responders, read by the judge.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::OnceLock;

use bytes::Bytes;
use stream_proto::{CloseReason, Status};

use crate::nats::Nats;
use crate::rng::Rng;
use crate::time::Nanos;
use crate::trace::Trace;

/// Largest item of all runs.
pub(crate) const MAX_ITEM: usize = 300_000;

/// A stream, or a refusal.
#[derive(Debug)]
pub(crate) struct Record {
    /// The caller's reply subject.
    pub(crate) token: Rc<str>,
    pub(crate) sid: u32,
    /// The own control subject.
    pub(crate) control: Rc<str>,
    /// The items that the handler sent, as places in [`Shared::bytes`].
    pub(crate) sent: Vec<(usize, usize)>,
    /// How the stream ends.
    pub(crate) status: Option<Status>,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) is_refusal: bool,
    /// Its responder has dropped it.
    pub(crate) is_forgotten: bool,
}

/// What all parts of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) nats: Nats,
    pub(crate) records: Vec<Record>,
    pub(crate) trace: Trace,
    pub(crate) totals: Totals,
    bytes: Bytes,
}

impl Shared {
    pub(crate) fn new(nats: Nats, trace: Trace) -> Self {
        // The same for all runs: which pieces of it are sent is left to the handlers.
        static BYTES: OnceLock<Bytes> = OnceLock::new();
        let bytes = BYTES.get_or_init(|| {
            let mut rng = Rng::new(1);
            (0..MAX_ITEM / 4).flat_map(|_| rng.next().to_be_bytes()).collect()
        });
        Self {
            nats,
            records: Vec::new(),
            trace,
            totals: Totals::default(),
            bytes: bytes.clone(),
        }
    }

    pub(crate) fn item(&self, (at, len): (usize, usize)) -> &[u8] {
        &self.bytes[at..at + len]
    }

    /// The streams that answer an attempt.
    pub(crate) fn answers(&self, token: &str) -> impl Iterator<Item = (usize, &Record)> {
        self.records
            .iter()
            .enumerate()
            .filter(move |(_, record)| &*record.token == token)
    }
}

/// Counted over all runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) runs: u64,
    pub(crate) calls: u64,
    pub(crate) verdicts: BTreeMap<String, u64>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Totals {
    pub(crate) fn count(&mut self, what: &'static str, more: u64) {
        *self.counts.entry(what).or_default() += more;
    }

    pub(crate) fn verdict(&mut self, what: String) {
        *self.verdicts.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.calls += other.calls;
        for (what, count) in other.verdicts {
            *self.verdicts.entry(what).or_default() += count;
        }
        for (what, count) in other.counts {
            self.count(what, count);
        }
    }
}

/// At most so many answers a second (rules 9 and 50).
#[derive(Debug, Default)]
pub(crate) struct Rate {
    second: Nanos,
    count: u32,
}

impl Rate {
    const MOST: u32 = 100;

    pub(crate) fn allows(&mut self, now: Nanos) -> bool {
        let second = now / crate::time::S;
        if second != self.second {
            *self = Self { second, count: 0 };
        }
        self.count += 1;
        self.count <= Self::MOST
    }
}
