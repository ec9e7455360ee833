//! What one call is, as a function of the seed.

use std::time::Duration;

use natstream::{Code, HandlerError, RetryPolicy};

use super::item::LONGEST;
use super::progress::PER_CALL;
use super::rng::Rng;

/// One call: what its handler sends, how it is read, and what is set for it.
#[derive(Clone, Debug)]
pub struct Plan {
    seed: u64,
    /// Its number in the run.
    pub call: u32,
    /// How many items a complete answer has.
    pub items: u32,
    /// Bytes of the longest and the shortest item.
    sizes: (usize, usize),
    /// How the answer ends.
    pub end: End,
    /// Does the handler return at once, and a task of its own send?
    pub from_a_task: bool,
    /// How long the handler takes for all items together, beside sending.
    pub work: Duration,
    /// How the items are read.
    pub reader: Reader,
    /// The reader leaves after so many items.
    pub cancel_after: Option<u32>,
    /// The total deadline.
    pub deadline: Option<Duration>,
    /// The limit between two items, and before the first.
    pub idle_timeout: Option<Duration>,
    /// The retry policy.
    pub retry: Option<Retry>,
    /// Does the call go on after its last item?
    pub resume: bool,
    /// The largest window, if another than the default.
    pub window: Option<usize>,
    /// The progress of all calls at which it begins.
    pub begins_at: u64,
}

/// How the answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// With success, and trailers or none.
    Complete {
        /// Does the handler send trailers?
        trailers: bool,
    },
    /// By a failure after so many items.
    #[non_exhaustive]
    Fail {
        /// After so many items.
        after: u32,
        /// With this code.
        code: Code,
    },
}

/// How the items are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reader {
    /// As they come.
    Fast,
    /// The time for all of them is spread over them.
    Slow(Duration),
    /// In the middle nothing is read for so long.
    Pausing(Duration),
}

/// How often a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// Only what was certainly not processed is asked again.
    Unprocessed,
    /// As long as no item was delivered.
    BeforeItems,
    /// From the beginning, also after items.
    Restart,
    /// The same, and each attempt has its own deadline.
    RestartWithin(Duration),
}

impl Plan {
    /// Call number `call` of the run with this seed, of `calls` that belong together; 0 for a load without an end.
    #[must_use]
    pub fn draw(seed: u64, call: u32, calls: u32) -> Self {
        let mut rng = Rng::new(seed, u64::from(call) + 1);
        let (items, sizes) = volume(&mut rng);
        let end = match rng.within(0..=9) {
            0..=1 => End::Fail {
                after: rng.within(0..=u64::from(items)) as u32,
                code: rng.pick(&[Code::NotFound, Code::DataLoss, Code::Internal, Code::Unavailable]),
            },
            2..=3 => End::Complete { trailers: true },
            _ => End::Complete { trailers: false },
        };
        let reader = match rng.within(0..=9) {
            0..=2 => Reader::Slow(rng.millis(200..=2000)),
            3 => Reader::Pausing(rng.millis(200..=1000)),
            _ => Reader::Fast,
        };
        let resume = rng.percent(20);
        let retry = match rng.within(0..=9) {
            0 => Some(Retry::Unprocessed),
            1 => Some(Retry::BeforeItems),
            2..=3 => Some(Retry::Restart),
            4 if !resume => Some(Retry::RestartWithin(rng.millis(300..=3000))),
            _ => None,
        };
        // The others make progress enough for these to begin.
        let begins_at = if rng.percent(30) {
            rng.within(0..=u64::from(calls) * PER_CALL / 2)
        } else {
            0
        };
        Self {
            seed,
            call,
            items,
            sizes,
            end,
            from_a_task: rng.percent(25),
            work: if rng.percent(30) {
                rng.millis(100..=1500)
            } else {
                Duration::ZERO
            },
            reader,
            cancel_after: rng.percent(8).then(|| rng.within(0..=u64::from(items)) as u32),
            deadline: rng.percent(15).then(|| {
                if rng.percent(50) {
                    rng.millis(100..=3000)
                } else {
                    Duration::from_secs(60)
                }
            }),
            idle_timeout: rng.percent(5).then(|| rng.millis(300..=3000)),
            retry,
            resume,
            window: rng.percent(20).then(|| rng.pick(&[8 << 10, 100 << 10, 16 << 20])),
            begins_at,
        }
    }

    /// Bytes of an item.
    #[must_use]
    pub fn len(&self, index: u32) -> usize {
        let mut rng = Rng::new(self.seed ^ u64::from(self.call), u64::from(index));
        let (low, high) = self.sizes;
        // Empty items are everywhere.
        if rng.percent(2) {
            0
        } else {
            rng.within(low as u64..=high as u64) as usize
        }
    }

    /// Items that the handler sends before the end.
    #[must_use]
    pub fn sent(&self) -> u32 {
        match self.end {
            End::Complete { .. } => self.items,
            End::Fail { after, .. } => after,
        }
    }

    /// The handler's words, if it fails.
    #[must_use]
    pub fn failure(&self) -> Option<HandlerError> {
        match self.end {
            End::Complete { .. } => None,
            End::Fail { after, code } => Some(HandlerError::new(code, format!("call {} after {after}", self.call))),
        }
    }

    /// What its handler sends with a successful end.
    #[must_use]
    pub fn trailers(&self) -> String {
        match self.end {
            End::Complete { trailers: true } => format!("trailers of call {}", self.call),
            _ => String::new(),
        }
    }

    /// The policy for `retry`.
    #[must_use]
    pub fn policy(&self) -> Option<RetryPolicy> {
        let fixed = RetryPolicy::fixed(3, Duration::from_millis(50));
        let exponential = RetryPolicy::exponential_between(5, Duration::from_millis(50), Duration::from_millis(500));
        Some(match self.retry? {
            Retry::Unprocessed => fixed.only_unprocessed(),
            Retry::BeforeItems => exponential,
            Retry::Restart => exponential.restart(),
            Retry::RestartWithin(limit) => fixed.restart().attempt_deadline(limit),
        })
    }

    /// The request that asks for the items from `first` on.
    #[must_use]
    pub fn payload(call: u32, first: u32) -> Vec<u8> {
        [call.to_le_bytes(), first.to_le_bytes()].concat()
    }

    /// What [`payload`](Self::payload) wrote.
    #[must_use]
    pub fn asked(payload: &[u8]) -> Option<(u32, u32)> {
        let (call, first) = payload.split_first_chunk()?;
        Some((u32::from_le_bytes(*call), u32::from_le_bytes(first.try_into().ok()?)))
    }
}

/// How many items, and their shortest and longest.
fn volume(rng: &mut Rng) -> (u32, (usize, usize)) {
    let (items, sizes) = match rng.within(0..=99) {
        0..5 => (0..=0, (0, 0)),
        5..20 => (1..=1, (0, LONGEST)),
        20..55 => (2..=40, (0, 2000)),
        55..75 => (40..=1000, (0, 200)),
        75..85 => (1000..=4000, (0, 64)),
        85..93 => (5..=30, (4000, 40_000)),
        _ => (3..=10, (60_000, LONGEST)),
    };
    (rng.within(items) as u32, sizes)
}
