//! What can fail.

use std::time::Duration;

use testkit::{Flow, Proxy, within};

use super::World;
use super::process::Responder;
use crate::LIMIT;
use crate::load::Rng;

/// Whose network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Side {
    /// The caller's.
    Caller,
    /// That of this responder.
    Responder(usize),
}

/// One fault. All of them pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// nats-server is killed (SIGKILL), and started again after a while.
    #[non_exhaustive]
    KillNats {
        /// How long it is down.
        down: Duration,
    },
    /// nats-server stands still for so long.
    PauseNats(Duration),
    /// A connection is reset.
    Cut(Side),
    /// Bytes wait for a while.
    #[non_exhaustive]
    Hold {
        /// Whose.
        side: Side,
        /// In which direction.
        flow: Flow,
        /// For how long.
        time: Duration,
    },
    /// Bytes are lost, until the connection is given up.
    #[non_exhaustive]
    HalfOpen {
        /// Whose.
        side: Side,
        /// In which direction.
        flow: Flow,
    },
    /// The network is slow to arrive, for a while.
    #[non_exhaustive]
    Delay {
        /// Whose.
        side: Side,
        /// Later by so much, in each direction.
        one_way: Duration,
        /// For how long.
        time: Duration,
    },
    /// The network is narrow, for a while.
    #[non_exhaustive]
    Throttle {
        /// Whose.
        side: Side,
        /// Bytes a second.
        rate: u64,
        /// For how long.
        time: Duration,
    },
    /// A responder is killed, and started again.
    Kill(usize),
    /// The machine of a responder is switched off; another one is started in its place.
    PowerOff(usize),
    /// A responder ends in order, but its calls are in the way; and is started again.
    Drain(usize),
}

/// Switched-off machines whose networks are kept; nats-server has long given up the ones before.
const GRAVES: usize = 4;

/// How long a drain waits for calls.
const DRAIN: Duration = Duration::from_millis(500);

/// The time that a fault takes.
async fn lasts(time: Duration) {
    // sleep: a fault without a length is none, and nothing happens meanwhile that could be waited for
    tokio::time::sleep(time).await;
}

impl Fault {
    /// Any of them, in a world with so many responders.
    pub fn draw(rng: &mut Rng, responders: usize) -> Self {
        let responder = rng.below(responders);
        let side = if rng.percent(50) {
            Side::Caller
        } else {
            Side::Responder(responder)
        };
        let flow = rng.pick(&[Flow::Both, Flow::ToClient, Flow::ToServer]);
        match rng.within(0..=99) {
            0..15 => Self::KillNats {
                down: rng.millis(0..=800),
            },
            15..22 => Self::PauseNats(rng.millis(50..=900)),
            22..45 => Self::Cut(side),
            45..57 => Self::Hold {
                side,
                flow,
                time: rng.millis(50..=900),
            },
            57..62 => Self::HalfOpen { side, flow },
            62..70 => Self::Delay {
                side,
                one_way: rng.millis(2..=80),
                time: rng.millis(200..=1000),
            },
            70..78 => Self::Throttle {
                side,
                rate: rng.within(2..=16) << 20,
                time: rng.millis(200..=1000),
            },
            78..90 => Self::Kill(responder),
            90..95 => Self::PowerOff(responder),
            _ => Self::Drain(responder),
        }
    }

    /// Its name.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::KillNats { .. } => "nats-server killed",
            Self::PauseNats(_) => "nats-server paused",
            Self::Cut(Side::Caller) => "caller's connection cut",
            Self::Cut(_) => "responder's connection cut",
            Self::Hold { .. } => "blackhole",
            Self::HalfOpen { .. } => "half-open connection",
            Self::Delay { .. } => "delay",
            Self::Throttle { .. } => "bandwidth limit",
            Self::Kill(_) => "responder killed",
            Self::PowerOff(_) => "responder switched off",
            Self::Drain(_) => "responder drained",
        }
    }
}

impl World {
    /// Lets `fault` happen, and returns when it is over.
    pub async fn suffer(&mut self, fault: Fault) {
        self.happened.begins(fault);
        match fault {
            Fault::KillNats { down } => {
                self.nats.kill();
                lasts(down).await;
                within(LIMIT, self.nats.restart()).await;
            }
            Fault::PauseNats(time) => {
                self.nats.pause();
                lasts(time).await;
                self.nats.resume();
            }
            Fault::Cut(side) => {
                let proxy = self.proxy(side);
                let accepted = proxy.accepted();
                proxy.cut();
                within(LIMIT, proxy.connected(accepted + 1)).await;
            }
            Fault::Hold { side, flow, time } => {
                self.proxy(side).blackhole(flow, true);
                lasts(time).await;
                self.proxy(side).blackhole(flow, false);
            }
            Fault::HalfOpen { side, flow } => {
                let proxy = self.proxy(side);
                let accepted = proxy.accepted();
                proxy.half_open(flow, true);
                // It is for the life of the connections there are.
                proxy.half_open(flow, false);
                within(LIMIT, proxy.connected(accepted + 1)).await;
            }
            Fault::Delay { side, one_way, time } => {
                self.proxy(side).delay(Flow::Both, one_way);
                lasts(time).await;
                self.proxy(side).delay(Flow::Both, Duration::ZERO);
            }
            Fault::Throttle { side, rate, time } => {
                self.proxy(side).bandwidth(Flow::Both, rate);
                lasts(time).await;
                self.proxy(side).bandwidth(Flow::Both, None);
            }
            Fault::Kill(responder) => {
                let responder: &mut Responder = &mut self.responders[responder];
                responder.kill();
                responder.start_again().await;
            }
            Fault::PowerOff(responder) => {
                let responder = &mut self.responders[responder];
                let grave = responder.power_off(&self.nats.url()).await;
                if self.graves.len() >= GRAVES {
                    self.graves.remove(0);
                }
                self.graves.push(grave);
                responder.start_again().await;
            }
            Fault::Drain(responder) => {
                let responder = &mut self.responders[responder];
                responder.drain(DRAIN).await;
                responder.start_again().await;
            }
        }
        self.happened.ends();
    }

    fn proxy(&self, side: Side) -> &Proxy {
        match side {
            Side::Caller => &self.asker.proxy,
            Side::Responder(responder) => &self.responders[responder].proxy,
        }
    }
}
