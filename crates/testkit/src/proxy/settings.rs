//! What a proxy is told to do, and how its connections see it.

use std::{num::NonZeroU64, time::Duration};

/// A direction of the bytes through a [`Proxy`](crate::Proxy), or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Flow {
    /// From the clients to the target.
    ToServer,
    /// From the target to the clients.
    ToClient,
    /// Both directions.
    Both,
}

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    ToServer,
    ToClient,
}

impl Flow {
    pub(super) fn sides(self) -> &'static [Side] {
        match self {
            Self::ToServer => &[Side::ToServer],
            Self::ToClient => &[Side::ToClient],
            Self::Both => &[Side::ToServer, Side::ToClient],
        }
    }
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// The faults of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) delay: Duration,
    pub(super) bytes_per_second: Option<NonZeroU64>,
    /// Bytes wait, until it ends.
    pub(super) hold: bool,
    /// Bytes are lost.
    pub(super) silent: bool,
    /// How often `silent` was turned on. It lasts as long as the connection, even when it was
    /// on for a moment only.
    silenced: u64,
}

impl Faults {
    pub(super) fn silence(&mut self, on: bool) {
        self.silent = on;
        self.silenced += u64::from(on);
    }
}

/// Everything that can be set, kept in a watch: whoever waits sees each change at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) faults: [Faults; 2],
    pub(super) refuse: bool,
    pub(super) listen: bool,
    /// How often live connections were cut.
    pub(super) cuts: u64,
}

/// How a connection tells what came before it from what it has lived through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth {
    cuts: u64,
    silenced: [u64; 2],
}

impl Settings {
    pub(super) fn new() -> Self {
        Self {
            faults: [Faults::default(); 2],
            refuse: false,
            listen: true,
            cuts: 0,
        }
    }

    pub(super) fn side(&self, side: Side) -> &Faults {
        &self.faults[side.index()]
    }

    pub(super) fn birth(&self) -> Birth {
        Birth {
            cuts: self.cuts,
            silenced: self.faults.map(|faults| faults.silenced),
        }
    }

    pub(super) fn holds_any(&self) -> bool {
        self.faults.iter().any(|faults| faults.hold)
    }
}

impl Birth {
    pub(super) fn is_cut(&self, settings: &Settings) -> bool {
        settings.cuts != self.cuts
    }

    pub(super) fn is_silent(&self, settings: &Settings, side: Side) -> bool {
        let faults = settings.side(side);
        faults.silent || faults.silenced != self.silenced[side.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_lasts_as_long_as_the_connection() {
        let mut settings = Settings::new();
        let birth = settings.birth();
        settings.faults[Side::ToClient.index()].silence(true);
        assert!(birth.is_silent(&settings, Side::ToClient));
        assert!(!birth.is_silent(&settings, Side::ToServer));

        settings.faults[Side::ToClient.index()].silence(false);
        assert!(birth.is_silent(&settings, Side::ToClient));
        assert!(!settings.birth().is_silent(&settings, Side::ToClient));
    }

    #[test]
    fn a_cut_is_for_those_that_live() {
        let mut settings = Settings::new();
        let birth = settings.birth();
        settings.cuts += 1;
        assert!(birth.is_cut(&settings));
        assert!(!settings.birth().is_cut(&settings));
    }
}
