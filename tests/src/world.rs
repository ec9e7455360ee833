//! A nats-server, callers and responders that can all be made to fail.

use std::time::Duration;

use testkit::{Levels, NatsServer, Proxy, settles, settles_where, unique_subject, within};

use crate::LIMIT;
use crate::load::{Caller, Ledger, Progress};

mod fault;
mod happened;
mod process;

pub use fault::{Fault, Side};
pub use happened::{Happened, Met, Responders};
pub use process::{Asker, Visitors};
use process::{Duty, Responder};

/// A side that has vanished is noticed after three heartbeats of 1 s, or by nats-server after three pings of 1 s; a
/// subject without a subscriber after 5 s; a request that was lost after 5 s. The rest is for a machine that is busy.
pub const DETECTION: Duration = Duration::from_secs(20);

/// So that a connection that has vanished is closed by nats-server too.
const CONFIG: &str = "ping_interval: \"1s\"\nping_max: 2\n";

/// All programs of a run, each with a runtime, a connection and a proxy of its own.
#[derive(Debug)]
pub struct World {
    subject: String,
    nats: NatsServer,
    asker: Asker,
    responders: Vec<Responder>,
    ledger: Ledger,
    happened: Happened,
    /// Of machines that lost their power: nothing ends their connections, and nothing passes.
    graves: Vec<Proxy>,
    /// Of nats-server with nobody, and with everybody.
    levels: [Levels; 2],
}

impl World {
    /// Starts everything, and makes one call so that everybody has what it keeps.
    pub async fn start(seed: u64, responders: usize) -> Self {
        let nats = within(LIMIT, NatsServer::builder().monitoring(true).config(CONFIG).start()).await;
        // nats-server may still count the connection that looked whether it is there.
        let empty = settles_where(LIMIT, || nats.levels(), |levels| levels.connections == 0).await;
        let subject = unique_subject("world");
        let ledger = Ledger::default();
        let mut started = Vec::new();
        for responder in 0..responders {
            let duty = Duty {
                seed,
                responder,
                subject: subject.clone(),
                ledger: ledger.clone(),
            };
            started.push(Responder::start(&nats.url(), duty).await);
        }
        let asker = Asker::start(&nats.url(), &subject).await;
        let full = within(LIMIT, nats.levels()).await;
        Self {
            subject,
            nats,
            asker,
            responders: started,
            ledger,
            happened: Happened::default(),
            graves: Vec::new(),
            levels: [empty, full],
        }
    }

    /// What makes the calls of a run whose progress is `progress`.
    #[must_use]
    pub fn caller(&self, progress: &Progress) -> Caller {
        self.asker.caller(&self.subject, progress)
    }

    /// The program that calls.
    #[must_use]
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Where other programs that call come from.
    #[must_use]
    pub fn visitors(&self) -> Visitors {
        Visitors {
            url: self.nats.url(),
            subject: self.subject.clone(),
        }
    }

    /// What has failed so far.
    #[must_use]
    pub fn happened(&self) -> &Happened {
        &self.happened
    }

    /// What the handlers tell.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Alive tasks of the caller and of all responders.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.asker.tasks() + self.responders.iter().map(Responder::tasks).sum::<usize>()
    }

    /// Waits until nothing is left of any call: no handler, stream, route, task, subscription or connection.
    pub async fn settled(&self) {
        let ledger = &self.ledger;
        settles(DETECTION, async || ledger.open(), (0, 0)).await;
        self.asker.settled().await;
        for responder in &self.responders {
            responder.settled().await;
        }
        settles(DETECTION, || self.nats.levels(), self.levels[1]).await;
    }

    /// Ends everything in order, and checks that nothing is left.
    pub async fn end(self) {
        let Self {
            nats,
            asker,
            responders,
            graves,
            levels,
            ..
        } = self;
        asker.end().await;
        for responder in responders {
            responder.end().await;
        }
        settles(DETECTION, || nats.levels(), levels[0]).await;
        drop(graves);
    }
}
