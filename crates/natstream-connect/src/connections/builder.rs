//! Settings of a set of connections.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::ConnectConfig;
use crate::connections::lease::Members;
use crate::connections::plan::{Action, Limits, Plan};
use crate::connections::{Connections, Inner, driver};
use crate::error::ConnectError;
use crate::supervisor::now;

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

    /// A connection beyond the fewest is closed when it carried nothing for so long.
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
        let Limits { min, max, .. } = self.limits;
        if min == 0 || max < min {
            return Err(ConnectError::config(
                "per_server",
                "it must allow for one connection, and for no fewer than the least",
            ));
        }
        #[cfg(feature = "consul")]
        let (config, feed) = Box::pin(self.config.discovered()).await?;
        #[cfg(not(feature = "consul"))]
        let config = self.config;
        let servers: Vec<String> = {
            let servers = config.servers()?;
            servers.iter().map(|server| server.as_url_str().to_owned()).collect()
        };
        let grow_above = self.limits.grow_above;
        let inner = Arc::new(Inner {
            config: Mutex::new(config),
            is_pinned: self.is_pinned,
            origin: now(),
            plan: Mutex::new(Plan::new(self.limits, servers)),
            members: Members::default(),
            wake: Notify::new(),
            joined: Notify::new(),
            over: CancellationToken::new(),
            grow_above,
        });
        let actions = inner.plan.lock().poll(inner.time(), driver::share);
        let dials = actions.into_iter().filter_map(|action| match action {
            Action::Dial { id, server } => Some((id, server)),
            Action::Retire { .. } => None,
        });
        // In this task: giving up gives all of them up.
        let mut dials: FuturesUnordered<_> = dials
            .map(|(id, server)| {
                let inner = &inner;
                async move {
                    let outcome = inner.dial(&server).await;
                    (id, server, outcome)
                }
            })
            .collect();
        let mut errors = Vec::new();
        while let Some((id, server, outcome)) = dials.next().await {
            let connection = outcome.map_err(|error| errors.push(error)).ok();
            let is_first = connection.is_some();
            inner.dialled(id, &server, connection);
            if is_first && !self.warms_up {
                break;
            }
        }
        drop(dials);
        if let (0, _, _) = inner.members.figures()
            && let Some(error) = ConnectError::all(errors)
        {
            return Err(error);
        }
        // What was not waited for is dialled by the driver.
        inner.plan.lock().forget_dials();
        driver::spawn(&inner);
        #[cfg(feature = "consul")]
        if let Some(feed) = feed {
            feed.start_many(&inner);
        }
        let alive = Arc::new(inner.over.clone().drop_guard());
        Ok(Connections { inner, _alive: alive })
    }
}
