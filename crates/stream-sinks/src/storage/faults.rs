//! What goes wrong with a [`CrashImage`](super::CrashImage) on demand.

use std::io;

/// A fault that lasts until it is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Whatever would grow beyond these bytes in all files fails with `StorageFull`, a write after its first part.
    Full(u64),
    /// Each sync of a file fails, and forgets what was to be synced, as Linux does.
    Sync,
    /// Each change fails with `ReadOnlyFilesystem`.
    ReadOnly,
    /// Each write and each sync waits until the fault is cleared.
    Stall,
    /// Each write fails after its first half.
    Write,
}

/// A kind of call, for [`Faults`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Change,
    Read,
    Sync,
    Write,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    calls: u64,
    power_off_at: Option<u64>,
    fault: Option<Fault>,
}

impl Faults {
    /// Counts a call that changes something, and says why it fails, if it does. `Ok(true)`: the power fails within it.
    pub(super) fn check(&mut self, call: Call) -> io::Result<bool> {
        if self.is_off() {
            return Err(off());
        }
        if call == Call::Read {
            return Ok(false);
        }
        self.calls += 1;
        match (self.fault, call) {
            (Some(Fault::ReadOnly), _) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            (Some(Fault::Sync), Call::Sync) => Err(io::Error::other("injected failure of a sync")),
            _ => Ok(self.is_off()),
        }
    }

    /// Whether [`admit`](Self::admit) needs to know how much is used.
    pub(super) fn limits(&self) -> bool {
        matches!(self.fault, Some(Fault::Full(_)))
    }

    /// Whether writes and syncs wait.
    pub(super) fn stalls(&self) -> bool {
        self.fault == Some(Fault::Stall)
    }

    /// How much of a write of `len` bytes succeeds when `used` are taken and it grows the file by `growth`.
    pub(super) fn admit(&self, used: u64, growth: u64, len: usize) -> usize {
        match self.fault {
            Some(Fault::Full(capacity)) if used + growth > capacity => {
                let fits = capacity.saturating_sub(used);
                len - usize::try_from(growth - fits.min(growth)).unwrap_or(len).min(len)
            }
            Some(Fault::Write) => len / 2,
            _ => len,
        }
    }

    /// What the rest of such a write fails with.
    pub(super) fn refusal(&self) -> io::Error {
        match self.fault {
            Some(Fault::Full(_)) => io::ErrorKind::StorageFull.into(),
            _ => io::Error::other("injected failure of a write"),
        }
    }

    pub(super) fn set(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    pub(super) fn power_off_at(&mut self, call: u64) {
        self.power_off_at = Some(call);
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    fn is_off(&self) -> bool {
        self.power_off_at.is_some_and(|at| self.calls >= at)
    }
}

pub(super) fn off() -> io::Error {
    io::Error::other("the power is off")
}
