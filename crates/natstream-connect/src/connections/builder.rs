//! Settings of a set of connections.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::ConnectConfig;
use crate::connections::plan::{Action, Limits};
use crate::connections::{Connections, Set, driver};
use crate::error::ConnectError;

/// A shorter life or idle time is a mistake.
const SHORTEST: Duration = Duration::from_millis(100);

/// Settings of [`Connections`].
///
/// | setting | default |
/// |---|---|
/// | [`per_server`](Self::per_server) | 1 to 4 |
/// | [`grow_above`](Self::grow_above) | 256 leases on each |
/// | [`idle_after`](Self::idle_after) | 60 s |
/// | [`max_life`](Self::max_life) | none |
/// | [`pinned`](Self::pinned) | off |
/// | [`warm_up`](Self::warm_up) | off |
///
/// Memory: that of its connections; see [`ConnectConfig`].
#[must_use = "a builder does nothing until it is connected"]
#[derive(Debug)]
pub struct ConnectionsBuilder {
    config: ConnectConfig,
    limits: Limits,
    is_pinned: bool,
    warms_up: bool,
}

impl ConnectionsBuilder {
    pub(crate) fn new(config: ConnectConfig) -> Self {
        Self {
            config,
            limits: Limits {
                min: 1,
                max: 4,
                grow_above: 256,
                idle: Duration::from_secs(60),
                max_life: None,
            },
            is_pinned: false,
            warms_up: false,
        }
    }

    /// How many connections each server has, at least and at most.
    pub fn per_server(mut self, connections: RangeInclusive<usize>) -> Self {
        (self.limits.min, self.limits.max) = connections.into_inner();
        self
    }

    /// One more is dialled when the connection that carries least has more leases than this.
    pub fn grow_above(mut self, leases: usize) -> Self {
        self.limits.grow_above = leases;
        self
    }

    /// A connection beyond the fewest is closed when it carried nothing for so long; `Duration::MAX` keeps it.
    pub fn idle_after(mut self, idle: Duration) -> Self {
        self.limits.idle = idle;
        self
    }

    /// Replaces each connection after this time, less a tenth of it by chance: the new one is there before the old one gets no
    /// more work, and the old one is closed when its last lease is dropped.
    pub fn max_life(mut self, life: Duration) -> Self {
        self.limits.max_life = Some(life);
        self
    }

    /// A connection whose server dies waits for that one, in place of going to another.
    pub fn pinned(mut self) -> Self {
        self.is_pinned = true;
        self
    }

    /// [`connect`](Self::connect) returns when each server has its fewest connections, or cannot be reached; not with the first
    /// one.
    pub fn warm_up(mut self) -> Self {
        self.warms_up = true;
        self
    }

    /// Connects. The servers that cannot be reached are tried again later.
    ///
    /// # Errors
    /// As [`Connection::connect`](crate::Connection::connect), when no server could be reached; `InvalidConfig` when
    /// `per_server` is empty or allows for none.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(self) -> Result<Connections, ConnectError> {
        self.check()?;
        #[cfg(feature = "consul")]
        let (config, feed) = Box::pin(self.config.discovered()).await?;
        #[cfg(not(feature = "consul"))]
        let config = self.config;
        let list = config.servers()?.to_vec();
        let set = Arc::new(Set::new(config, list, self.limits, self.is_pinned));
        // From here on, giving up ends everything.
        let alive = set.over.clone().drop_guard();
        let (tell, mut outcomes) = mpsc::unbounded_channel();
        let actions = set.plan.lock().poll(set.time(), driver::share);
        for action in actions {
            if let Action::Dial { id, server } = action {
                let tell = tell.clone();
                // Nobody may be waiting any more.
                driver::start(&set, id, server, move |outcome| drop(tell.send(outcome)));
            }
        }
        drop(tell);
        driver::spawn(&set);
        let mut errors = Vec::new();
        while let Some(outcome) = outcomes.recv().await {
            match outcome {
                Ok(()) if !self.warms_up => break,
                Ok(()) => {}
                Err(error) => errors.push(error),
            }
        }
        if !set.members.is_any_up()
            && let Some(error) = ConnectError::all(errors)
        {
            return Err(error);
        }
        #[cfg(feature = "consul")]
        if let Some(feed) = feed {
            feed.start_many(&set);
        }
        Ok(Connections {
            set,
            _alive: Arc::new(alive),
        })
    }

    fn check(&self) -> Result<(), ConnectError> {
        let Limits {
            min,
            max,
            idle,
            max_life,
            ..
        } = self.limits;
        if min == 0 || max < min {
            return Err(ConnectError::config(
                "per_server",
                "it must allow for one connection, and for no fewer than the least",
            ));
        }
        for (field, time) in [("idle_after", Some(idle)), ("max_life", max_life)] {
            if time.is_some_and(|time| time < SHORTEST) {
                return Err(ConnectError::config(
                    field,
                    "it is below 100 ms: connections would come and go all the time",
                ));
            }
        }
        Ok(())
    }
}
