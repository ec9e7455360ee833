//! Settings of the caller's half.

use core::time::Duration;

use crate::budget::Budget;
use crate::plain::PlainDialect;

/// Smallest window, which every stream has always (rule 34).
pub const MIN_WINDOW: u64 = 8 * 1024;

/// Window at the beginning while the budget lasts (rule 34).
pub const INITIAL_WINDOW: u64 = 64 * 1024;

/// What a window may grow to, and a responder keeps, without a round trip that asks for more (rules 29, 32 and 34).
pub const NEAR_WINDOW: u64 = 2 << 20;

/// Largest window: more only makes a stall longer.
pub(super) const MAX_WINDOW: u64 = 1 << 30;

/// Settings of an [`Inbound`](super::Inbound).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InboundConfig {
    /// Largest window in bytes. Default 8 MiB, at least [`MIN_WINDOW`], at most 1 GiB.
    ///
    /// A stream begins with 64 KiB. The window doubles up to [`NEAR_WINDOW`] while the responder is held up by credit and
    /// the user keeps up, and beyond that while it is used up in less than two round trips. Those above share three
    /// quarters of the [`budget`](Self::budget) equally. One that lasts for more than a second, and eight round trips, is
    /// halved.
    pub max_window: u64,
    /// Largest item that is taken. Default 16 MiB.
    pub max_item: u64,
    /// Heartbeat interval that is asked for. Default 5 s, clamped to 1–60 s.
    pub heartbeat: Duration,
    /// Longest wait of the user for the first item. Default none.
    pub first_item_timeout: Option<Duration>,
    /// Longest wait of the user between two items. Default none.
    pub idle_timeout: Option<Duration>,
    /// Time for the whole call. Default none. It travels to the handler.
    pub deadline: Option<Duration>,
    /// What the windows above [`MIN_WINDOW`] are taken from. Default: no common limit.
    pub budget: Option<Budget>,
    /// What the memory is taken from in which items are put together that span messages. Default: no common limit.
    ///
    /// A stream that finds it used up fails with `RESOURCE_EXHAUSTED`.
    pub assembly_budget: Option<Budget>,
    /// How long the own connection may be down. Default 30 s, at most 49 days.
    pub outage_limit: Duration,
    /// May this side publish to control subjects? Default true. Without, there is no flow control and nothing is sent
    /// again; a loss ends the stream. It needs a deadline then (rule 66).
    pub control: bool,
    /// Bytes that may wait for the user where there is no flow control; a stream that exceeds it is lost. Default 16 MiB. An
    /// item or message counts 256 more than it has.
    pub max_buffered: u64,
    /// What the memory for such messages is taken from. Default: no common limit.
    pub buffer_budget: Option<Budget>,
    /// Asks for a test answer, which needs no handler. Default false.
    pub probe: bool,
    /// The dialect of a responder that does not speak this protocol: see [`ControlUse::Plain`](super::ControlUse::Plain).
    /// Default none: its answer is a protocol error.
    pub plain: Option<PlainDialect>,
}

impl Default for InboundConfig {
    fn default() -> Self {
        Self {
            max_window: 8 << 20,
            max_item: 16 << 20,
            heartbeat: crate::header::DEFAULT_HEARTBEAT,
            first_item_timeout: None,
            idle_timeout: None,
            deadline: None,
            budget: None,
            assembly_budget: None,
            outage_limit: Duration::from_secs(30),
            control: true,
            max_buffered: 16 << 20,
            buffer_budget: None,
            probe: false,
            plain: None,
        }
    }
}
