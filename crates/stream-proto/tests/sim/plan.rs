//! What a seed says: the network, its faults, the calls, their handlers and their readers.

use crate::rng::Rng;
use crate::time::{MS, Nanos, S, US};

/// How bad a run is, and so how much of it must work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// No faults: every call gets what its handler says.
    Calm,
    /// Single messages are lost and repeated.
    Lossy,
    /// Outages that rules 43, 44 and 49 promise to mend, with time between them.
    Outages,
    /// Everything together, also what nothing can mend.
    Wild,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) weather: Weather,
    /// Caller and responder are in two accounts.
    pub(crate) cross: bool,
    pub(crate) heartbeat: Nanos,
    pub(crate) latency: (Nanos, Nanos),
    /// Per mille of the messages on each hop.
    pub(crate) loss: u64,
    pub(crate) repetition: u64,
    /// Of what is published on a socket that is dead already: kept in the client's queue, and sent later.
    pub(crate) kept: u64,
    /// Of what is in flight when a socket dies: read later, perhaps after younger messages.
    pub(crate) late: u64,
    /// `response_threshold` of the export.
    pub(crate) threshold: Nanos,
    /// nats-server answers 503 to a publish on an alias that has ended.
    pub(crate) dead_alias_503: bool,
    pub(crate) responders: usize,
    pub(crate) group: bool,
    pub(crate) max_window: u64,
    pub(crate) retention: u64,
    pub(crate) max_unit: usize,
    pub(crate) stall_limit: Nanos,
    /// Messages that one look at a machine may send before something else gets a turn; 0: all.
    pub(crate) burst: usize,
    /// How late timers fire.
    pub(crate) lateness: Nanos,
    /// Opens that are refused, per mille.
    pub(crate) refusals: u64,
    /// When foreign and hostile messages come.
    pub(crate) intrusions: Vec<Nanos>,
    pub(crate) calls: Vec<CallPlan>,
    pub(crate) faults: Vec<(Nanos, Fault)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A socket dies.
    Cut(Cut),
    /// nats-server forgets all aliases; the sockets die by cuts of their own.
    ForgetAliases,
    /// A responder's process dies; another takes its place later, or none does.
    Kill { responder: usize, respawn: Option<Nanos> },
    /// A process sleeps; its sockets live.
    Freeze { who: Who, time: Nanos },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) who: Who,
    /// Until the client knows, until nats-server knows, until there is a new socket: all from the cut on.
    pub(crate) client_notices: Nanos,
    pub(crate) server_notices: Nanos,
    pub(crate) back: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Caller,
    Responder(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct CallPlan {
    pub(crate) at: Nanos,
    /// Without control (rule 66).
    pub(crate) is_uncontrolled: bool,
    pub(crate) cancel: Option<Nanos>,
    pub(crate) deadline: Option<Nanos>,
    pub(crate) first_item: Option<Nanos>,
    pub(crate) idle: Option<Nanos>,
    pub(crate) reader: ReaderPlan,
    pub(crate) handler: HandlerPlan,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ReaderPlan {
    Eager,
    /// Takes one item at a time, with a pause after each of up to this.
    Slow(Nanos),
    /// Reads for a while, does something else for up to this.
    Pausing(Nanos),
    /// Reads nothing before this time has passed.
    Late(Nanos),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HandlerPlan {
    /// Before it does anything.
    pub(crate) delay: Nanos,
    pub(crate) items: usize,
    pub(crate) item_size: (u64, u64),
    /// Items that it sends before it yields, at most.
    pub(crate) burst: u64,
    /// How long it yields, at most.
    pub(crate) pause: Nanos,
    pub(crate) end: EndPlan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndPlan {
    Finish,
    Fail,
    /// The host aborts the stream: it drains.
    Abort,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let weather = rng.pick(&[
            Weather::Calm,
            Weather::Lossy,
            Weather::Outages,
            Weather::Outages,
            Weather::Wild,
        ]);
        let cross = rng.chance(350);
        let heartbeat = rng.pick(&[5 * S, 5 * S, 5 * S, 3 * S, 2 * S, S]);
        let slow = rng.time((100 * US)..=(150 * MS));
        let (lossy, wild) = (weather == Weather::Lossy, weather == Weather::Wild);
        let loss = match weather {
            Weather::Lossy => rng.pick(&[5, 20, 50, 100, 200]),
            Weather::Wild => rng.pick(&[0, 0, 10, 50, 200]),
            _ => 0,
        };
        let threshold = rng.pick(&[120 * S, 120 * S, 30 * S, 8 * S, 3 * S]);
        let responders = if rng.chance(300) { 2 } else { 1 };
        let calls = 1 + rng.below(8);
        let mut plan = Self {
            weather,
            cross,
            heartbeat,
            latency: (slow / 10, slow),
            loss,
            repetition: if lossy || wild { rng.pick(&[0, 10, 100]) } else { 0 },
            kept: rng.pick(&[0, 500, 1000]),
            late: rng.pick(&[0, 300, 1000]),
            threshold,
            dead_alias_503: rng.chance(500),
            responders,
            group: cross || rng.chance(700),
            max_window: rng.pick(&[8 << 10, 64 << 10, 64 << 10, 256 << 10, 1 << 20]),
            retention: rng.pick(&[1, 4 << 10, 64 << 10, 1 << 20, 1 << 20, 1 << 20]),
            max_unit: rng.pick(&[64 << 10, 64 << 10, 16 << 10, 1000, 128]),
            stall_limit: rng.pick(&[300 * S, 300 * S, 20 * S]),
            burst: rng.pick(&[0, 0, 1, 3]),
            lateness: rng.pick(&[0, 0, MS, 10 * MS]),
            refusals: rng.pick(&[0, 0, 0, 100]),
            intrusions: Vec::new(),
            calls: (0..calls).map(|_| CallPlan::draw(rng)).collect(),
            faults: Vec::new(),
        };
        if plan.max_unit < 4096 {
            // Small units cost time, not insight: keep their number down.
            for call in &mut plan.calls {
                call.handler.item_size.1 = call.handler.item_size.1.min(plan.max_unit as u64 * 16);
            }
        }
        if rng.chance(400) {
            let count = rng.within(1..=30);
            plan.intrusions = (0..count).map(|_| rng.within(0..=(20 * S))).collect();
        }
        match weather {
            Weather::Calm | Weather::Lossy => {}
            Weather::Outages => plan.draw_outages(rng),
            Weather::Wild => plan.draw_wild(rng),
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Each side is away for at most `longest`, all of it within that time, and then there is peace.
    fn draw_outages(&mut self, rng: &mut Rng) {
        // Silence is up to h old when the outage begins, and 3 h of it end a stream (rule 48).
        let longest = (2 * self.heartbeat - 500 * MS).min(4 * S);
        let mut start = self.near_a_call(rng, 6 * S);
        for _ in 0..=rng.below(4) {
            let mut who: Vec<Who> = (0..self.responders).map(Who::Responder).collect();
            who.push(Who::Caller);
            let only = (!rng.chance(400)).then(|| rng.pick(&who));
            for who in who.into_iter().filter(|who| only.is_none_or(|only| only == *who)) {
                let offset = rng.within(0..=(longest / 4));
                let back = rng.time((10 * MS)..=(longest - offset));
                self.faults
                    .push((start + offset, Fault::Cut(Cut::draw(rng, who, back))));
            }
            start += longest + 7 * S + rng.within(0..=(5 * S));
        }
    }

    /// A moment in the first `time`, often when a call has just begun: most can go wrong then.
    fn near_a_call(&self, rng: &mut Rng, time: Nanos) -> Nanos {
        if rng.chance(500) {
            return rng.within(0..=time);
        }
        let call = rng.below(self.calls.len());
        self.calls[call].at + rng.time(US..=S)
    }

    fn draw_wild(&mut self, rng: &mut Rng) {
        for _ in 0..=rng.below(6) {
            let at = self.near_a_call(rng, 25 * S);
            let responder = rng.below(self.responders);
            let who = if rng.chance(500) {
                Who::Caller
            } else {
                Who::Responder(responder)
            };
            let fault = match rng.below(10) {
                0 => Fault::Kill {
                    responder,
                    respawn: rng.chance(700).then(|| rng.time((10 * MS)..=(8 * S))),
                },
                1 => Fault::Freeze {
                    who,
                    time: rng.time((10 * MS)..=(20 * S)),
                },
                2 => {
                    let back = rng.time((20 * S)..=(45 * S));
                    Fault::Cut(Cut::draw(rng, who, back))
                }
                3 => {
                    // nats-server starts anew.
                    for who in (0..self.responders).map(Who::Responder).chain([Who::Caller]) {
                        let back = rng.time((10 * MS)..=(6 * S));
                        self.faults.push((
                            at,
                            Fault::Cut(Cut {
                                server_notices: 0,
                                ..Cut::draw(rng, who, back)
                            }),
                        ));
                    }
                    Fault::ForgetAliases
                }
                _ => {
                    let back = rng.time((10 * MS)..=(6 * S));
                    Fault::Cut(Cut::draw(rng, who, back))
                }
            };
            self.faults.push((at, fault));
        }
    }
}

impl Cut {
    fn draw(rng: &mut Rng, who: Who, back: Nanos) -> Self {
        Self {
            who,
            client_notices: rng.within(0..=back.min(200 * MS)),
            server_notices: if rng.chance(700) {
                rng.within(0..=(5 * MS))
            } else {
                rng.time(MS..=(3 * S))
            },
            back,
        }
    }
}

impl CallPlan {
    fn draw(rng: &mut Rng) -> Self {
        let reader = match rng.below(8) {
            0..=3 => ReaderPlan::Eager,
            4 => ReaderPlan::Slow(rng.time(MS..=(500 * MS))),
            5 | 6 => ReaderPlan::Pausing(rng.time((10 * MS)..=(10 * S))),
            _ => ReaderPlan::Late(rng.time((100 * MS)..=(30 * S))),
        };
        let limit = |rng: &mut Rng, chance| rng.chance(chance).then(|| rng.time((50 * MS)..=(20 * S)));
        let is_uncontrolled = rng.chance(100);
        let deadline = limit(rng, 120);
        Self {
            at: rng.within(0..=(10 * S)),
            is_uncontrolled,
            cancel: limit(rng, 150),
            // Nothing else would end such a call for certain.
            deadline: if is_uncontrolled {
                deadline.or(Some(60 * S))
            } else {
                deadline
            },
            first_item: limit(rng, 60),
            idle: limit(rng, 60),
            reader,
            handler: HandlerPlan::draw(rng),
        }
    }
}

impl HandlerPlan {
    fn draw(rng: &mut Rng) -> Self {
        let (items, item_size, pause): (usize, (u64, u64), Nanos) = match rng.below(10) {
            // One message is the whole answer.
            0 | 1 => (rng.below(3), (0, 200), 0),
            // Ticks.
            2..=4 => (rng.below(40), (0, 100), 3 * S),
            // As fast as it goes.
            5 | 6 => (rng.below(300), (0, 2000), MS),
            7 => (rng.below(60), (0, 20_000), 200 * MS),
            // Long items.
            8 => (rng.below(8), (0, 300_000), 500 * MS),
            // Nothing for long.
            _ => (rng.below(4), (0, 50), 20 * S),
        };
        Self {
            delay: if rng.chance(500) { 0 } else { rng.time(MS..=(3 * S)) },
            items,
            item_size,
            burst: rng.spread(1..=100),
            pause,
            end: rng.pick(&[
                EndPlan::Finish,
                EndPlan::Finish,
                EndPlan::Finish,
                EndPlan::Finish,
                EndPlan::Fail,
                EndPlan::Abort,
            ]),
        }
    }
}
