//! What the plan knows of one connection.

use std::time::Duration;

use crate::connections::plan::Id;

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) server: String,
    pub(crate) phase: Phase,
    /// It is replaced after this.
    pub(crate) expires: Option<Duration>,
    pub(crate) load: usize,
    pub(crate) leases: u64,
    pub(crate) idle_since: Option<Duration>,
    /// It is with its own server.
    pub(crate) is_home: bool,
}

impl Slot {
    /// Why it is dialled, while it is.
    pub(crate) fn purpose(&self) -> Option<Purpose> {
        match self.phase {
            Phase::Dialling { purpose, .. } => Some(purpose),
            Phase::Up | Phase::Down => None,
        }
    }

    pub(crate) fn is_dialling(&self) -> bool {
        self.purpose().is_some()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Dialling {
        purpose: Purpose,
        since: Duration,
    },
    Up,
    /// Its connection is lost; async-nats looks for another server.
    Down,
}

/// Why a connection is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Those that there are carry much.
    Growth,
    /// Its server has fewer than the fewest.
    Missing,
    /// This one is retired when it is up.
    Replaces(Id),
}
