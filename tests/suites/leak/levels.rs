//! What must be as it was when all calls are over.

use std::future::ready;

use integration::LIMIT;
use natstream::{Connection, Pool, Server};
use testkit::{Levels, NatsServer, alive_tasks, resident_memory, settles_where};

use crate::allocator;

/// Everything but memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Level {
    tasks: usize,
    /// Reply subjects of the caller that lead to a call.
    routes: u64,
    /// Handlers that run, or whose sender is in use.
    running: u64,
    caller: (usize, usize),
    responder: (usize, usize),
    nats: Levels,
}

impl Level {
    pub(crate) async fn now(nats: &NatsServer, pool: &Pool, server: &Server) -> Self {
        let load = |connection: &Connection| connection.driver().load();
        Self {
            tasks: alive_tasks(),
            routes: integration::number(pool, "routes: "),
            running: integration::number(server, "running: "),
            caller: load(pool.connection().expect("one connection")),
            responder: load(server.connection()),
            nats: nats.levels().await,
        }
    }

    /// Only what is held on purpose is left: four calls, of which one is queued. Each has a deadline on either side.
    pub(crate) fn is_idle(&self) -> bool {
        self.routes == 4 && self.running == 4 && self.caller == (4, 0) && self.responder == (4, 0)
    }

    pub(crate) fn is_without_calls(&self) -> bool {
        self.routes == 0 && self.running == 0 && self.caller == (0, 0) && self.responder == (0, 0)
    }

    /// Is there no more of anything than there was?
    pub(crate) fn is_within(&self, before: &Self) -> bool {
        self.tasks <= before.tasks
            && self.nats.connections <= before.nats.connections
            && self.nats.subscriptions <= before.nats.subscriptions
    }
}

/// Bytes on the heap, and of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) heap: isize,
    pub(crate) resident: u64,
}

/// Hash tables stay as large as they once had to be, and how many calls are under way at a time is chance: on a busy machine
/// they grow in a later part. A leak of 128 bytes a call shows in 2,000 calls, one of 3 bytes in 100,000.
const TOLERANCE: isize = 256 << 10;

/// What the allocator may keep.
const RESIDENT_TOLERANCE: u64 = 32 << 20;

impl Memory {
    pub(crate) fn now() -> Self {
        Self {
            heap: allocator::live(),
            resident: resident_memory(std::process::id()),
        }
    }

    /// Waits until there is no more than there was; returns what there is.
    #[track_caller]
    pub(crate) fn settles(self) -> impl Future<Output = Self> {
        settles_where(
            LIMIT,
            || ready(Self::now()),
            move |now| now.heap <= self.heap + TOLERANCE && now.resident <= self.resident + RESIDENT_TOLERANCE,
        )
    }
}
