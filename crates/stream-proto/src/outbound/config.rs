//! Settings of the responder's half.

use core::time::Duration;

use crate::budget::Budget;
use crate::frame::MAX_UNIT;

/// Smallest largest unit that a stream can work with: a server whose `max_payload` leaves less cannot be used.
pub const MIN_UNIT: usize = 128;

/// Settings of an [`Outbound`](super::Outbound).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutboundConfig {
    /// How many bytes are kept for sending again. Default 8 MiB.
    ///
    /// It also bounds what is sent ahead of the caller's acknowledgement, and is announced in the answer. A stream keeps
    /// no more than the caller grants, and above [`NEAR_WINDOW`](crate::NEAR_WINDOW) only while it uses that.
    pub retention: u64,
    /// What retention above [`NEAR_WINDOW`](crate::NEAR_WINDOW) is taken from. Default: no common limit.
    ///
    /// A stream that finds it used up keeps and sends ahead less.
    pub retention_budget: Option<Budget>,
    /// Largest item that [`Outbound::push`](super::Outbound::push) takes. Default 16 MiB; the caller's own limit holds as well.
    pub max_item: u64,
    /// Largest message, headers not counted. Default and maximum 64 KiB, minimum [`MIN_UNIT`].
    pub max_unit: usize,
    /// Heartbeat interval when the caller asks for none. Default 5 s, clamped to 1–60 s.
    pub heartbeat: Duration,
    /// How long a stream may be blocked by a caller that does not read. Default 5 min.
    pub stall_limit: Duration,
    /// Is the reply subject mapped by an account import (rule 5)?
    pub mapped: bool,
    /// How long the own connection may be down. Default 30 s, at most 49 days.
    pub outage_limit: Duration,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            retention: 8 << 20,
            retention_budget: None,
            max_item: 16 << 20,
            max_unit: MAX_UNIT,
            heartbeat: crate::header::DEFAULT_HEARTBEAT,
            stall_limit: Duration::from_secs(300),
            mapped: false,
            outage_limit: Duration::from_secs(30),
        }
    }
}
