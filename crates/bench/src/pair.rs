//! A caller and a responder of one peer, each a process of its own, beside one nats-server.

use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use testkit::NatsServer;

use crate::peers::Peer;
use crate::peers::caller::{Calls, Task};
use crate::process::{Role, cpu_seconds, peak_memory, reset_peak, resident_memory};
use crate::report::Spread;
use crate::role::Done;

/// What differs from the defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    /// Of the caller.
    pub(crate) connections: usize,
    /// Of the responder's queue group, each on a connection of its own.
    pub(crate) members: usize,
    pub(crate) window: Option<usize>,
    /// Of async-nats's subscriptions.
    pub(crate) has_default_capacity: bool,
}

impl Default for Set {
    fn default() -> Self {
        Self {
            connections: 1,
            members: 1,
            window: None,
            has_default_capacity: false,
        }
    }
}

/// The two processes end when it is dropped.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) peer: Peer,
    caller: Role,
    responder: Role,
    nats: u32,
}

/// What one task took; figures are caller, responder and nats-server, which tonic does not use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Items a second, or calls.
    pub(crate) rate: f64,
    pub(crate) cpu_ns: [f64; 3],
    /// Of caller and responder, an item.
    pub(crate) allocations: [f64; 2],
    /// Most memory while it ran.
    pub(crate) peak: [f64; 3],
    /// How much that was above what there was before.
    pub(crate) grown: [f64; 3],
}

impl Cost {
    /// Of calls, each of which had so many items.
    fn of_items(mut self, items: f64) -> Self {
        self.rate *= items;
        self.cpu_ns = self.cpu_ns.map(|ns| ns / items);
        self.allocations = self.allocations.map(|count| count / items);
        self
    }

    pub(crate) fn cpu_of_all(&self) -> f64 {
        self.cpu_ns.iter().sum()
    }
}

impl Pair {
    pub(crate) async fn start(nats: &NatsServer, peer: Peer, set: Set) -> Result<Self> {
        Self::begin(nats, peer, set, None).await
    }

    /// The caller connects to this URL, behind which the server is.
    pub(crate) async fn start_behind(nats: &NatsServer, peer: Peer, set: Set, url: &str) -> Result<Self> {
        Self::begin(nats, peer, set, Some(url)).await
    }

    async fn begin(nats: &NatsServer, peer: Peer, set: Set, url: Option<&str>) -> Result<Self> {
        let name = serde_json::to_value(peer)?;
        let name = name.as_str().unwrap_or_default();
        let window = set.window.unwrap_or(0).to_string();
        // No pair hears of another one.
        let subject = testkit::unique_subject(name);
        let members = set.members.to_string();
        let responder = Role::start(&["responder", &nats.url(), name, &subject, &members, &window]).await?;
        let connections = set.connections.to_string();
        let url = url.unwrap_or_else(|| responder.url());
        let mut words = vec!["caller", url, name, &subject, &connections, &window];
        if set.has_default_capacity {
            words.push("--default-capacity");
        }
        Ok(Self {
            peer,
            caller: Role::start(&words).await?,
            responder,
            nats: nats.pid(),
        })
    }

    /// One pair of each of these peers.
    pub(crate) async fn all(nats: &NatsServer, peers: &[Peer]) -> Result<Vec<Self>> {
        let mut pairs = Vec::with_capacity(peers.len());
        for peer in peers {
            pairs.push(Self::start(nats, *peer, Set::default()).await?);
        }
        Ok(pairs)
    }

    /// What the caller answers.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, task: &impl Serialize) -> Result<T> {
        self.caller.ask(task).await
    }

    /// What calls at once cost.
    pub(crate) async fn streams(&mut self, streams: usize, items: u64, size: usize) -> Result<Cost> {
        let task = Task::Streams { streams, items, size };
        let (_, cost): (Done, Cost) = self.cost(&task, |done: &Done| *done).await?;
        Ok(cost)
    }

    /// What an item of calls costs, which callers make one after the other.
    pub(crate) async fn calls(&mut self, callers: usize, calls: u64, items: u64, size: usize) -> Result<Cost> {
        let task = Task::Calls {
            callers,
            calls,
            items,
            size,
        };
        let (_, cost): (Calls, Cost) = self.cost(&task, |calls: &Calls| calls.done).await?;
        Ok(cost.of_items(items as f64))
    }

    /// Does a task, and says what it took.
    pub(crate) async fn cost<T: DeserializeOwned>(
        &mut self,
        task: &Task,
        done: impl Fn(&T) -> Done,
    ) -> Result<(T, Cost)> {
        let pids = self.pids()?;
        for pid in pids {
            reset_peak(pid)?;
        }
        let memory = memory(pids, resident_memory)?;
        let before = (cpu(pids)?, self.allocations().await?);
        let answer: T = self.caller.ask(task).await?;
        let after = (cpu(pids)?, self.allocations().await?);
        let peak = self::memory(pids, peak_memory)?;
        let done = done(&answer);
        let items = done.items as f64;
        let cost = Cost {
            rate: done.rate(),
            cpu_ns: std::array::from_fn(|process| (after.0[process] - before.0[process]) * 1e9 / items),
            allocations: std::array::from_fn(|process| (after.1[process] - before.1[process]) as f64 / items),
            peak,
            grown: std::array::from_fn(|process| (peak[process] - memory[process]).max(0.0)),
        };
        Ok((answer, cost))
    }

    /// Resident bytes of caller, responder and nats-server.
    pub(crate) fn resident(&self) -> Result<[f64; 3]> {
        memory(self.pids()?, resident_memory)
    }

    fn pids(&self) -> Result<[u32; 3]> {
        Ok([self.caller.pid()?, self.responder.pid()?, self.nats])
    }

    async fn allocations(&mut self) -> Result<[u64; 2]> {
        Ok([self.caller.allocations().await?, self.responder.allocations().await?])
    }
}

fn cpu(pids: [u32; 3]) -> Result<[f64; 3]> {
    let [caller, responder, nats] = pids;
    Ok([cpu_seconds(caller)?, cpu_seconds(responder)?, cpu_seconds(nats)?])
}

fn memory(pids: [u32; 3], of: impl Fn(u32) -> Result<u64>) -> Result<[f64; 3]> {
    let [caller, responder, nats] = pids;
    Ok([of(caller)? as f64, of(responder)? as f64, of(nats)? as f64])
}

/// Of one process, a figure of each round.
pub(crate) fn each<const N: usize>(rounds: &[Cost], factor: f64, figures: fn(&Cost) -> [f64; N]) -> [Spread; N] {
    std::array::from_fn(|process| Spread::by(rounds, factor, |cost| figures(cost)[process]))
}
