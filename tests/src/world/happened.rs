//! What has failed, and when.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fault::{Fault, Side};

/// For so long a fault that is over may still have consequences: a request that was lost is given up 5 s later, and a
/// responder that has gone is suspected for 5 s.
const AFTERMATH: Duration = Duration::from_secs(12);

/// The faults of a run. Cloning gives another handle to the same list.
#[derive(Clone, Debug, Default)]
pub struct Happened(Arc<Mutex<Vec<Event>>>);

#[derive(Debug)]
struct Event {
    fault: Fault,
    began: Instant,
    ended: Option<Instant>,
}

/// What a call may have met.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Met {
    /// Responders that ended without a word, or whose connection was open and dead.
    pub gone: Responders,
    /// Responders that were drained.
    pub drained: Responders,
    /// The caller's connection was open and dead.
    pub deaf: bool,
    /// Messages were lost.
    pub lossy: bool,
    /// Perhaps nobody was subscribed to the subject.
    pub unserved: bool,
    /// The caller had no connection, or one that took nothing.
    pub caller_down: bool,
    list: Vec<String>,
}

impl Happened {
    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault begins; it ends with [`ends`](Self::ends).
    pub(super) fn begins(&self, fault: Fault) {
        self.events().push(Event {
            fault,
            began: Instant::now(),
            ended: None,
        });
    }

    /// The last fault is over.
    pub(super) fn ends(&self) {
        if let Some(event) = self.events().last_mut() {
            event.ended = Some(Instant::now());
        }
    }

    /// How often each kind of fault was there.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for event in &*self.events() {
            *counts.entry(event.fault.kind()).or_default() += 1;
        }
        counts
    }

    /// What a call that lived so long may have met.
    #[must_use]
    pub fn during(&self, began: Instant, ended: Instant) -> Met {
        let mut met = Met::default();
        for event in &*self.events() {
            let is_over = event.ended.is_some_and(|ended| ended + AFTERMATH < began);
            if !is_over && event.began <= ended {
                met.add(event.fault);
                let since = |at: Instant| match at.checked_duration_since(began) {
                    Some(after) => after.as_secs_f64(),
                    None => -(began - at).as_secs_f64(),
                };
                let until = event.ended.map_or(f64::INFINITY, since);
                let from = since(event.began);
                met.list
                    .push(format!("{:?} from {from:.3} s to {until:.3} s", event.fault));
            }
        }
        met
    }
}

/// Some of the responders.
#[derive(Clone, Copy, Debug, Default)]
pub struct Responders(u64);

impl Responders {
    fn add(&mut self, responder: usize) {
        self.0 |= 1 << responder;
    }

    /// Is it one of them? When it is not known which it is: are there any?
    #[must_use]
    pub fn may_be(self, responder: Option<usize>) -> bool {
        responder.map_or(self.0 != 0, |responder| self.0 & (1 << responder) != 0)
    }
}

impl Met {
    fn add(&mut self, fault: Fault) {
        let of_caller = |side: Side| side == Side::Caller;
        match fault {
            Fault::KillNats { .. } => {
                self.lossy = true;
                self.unserved = true;
                self.caller_down = true;
            }
            Fault::Cut(side) => {
                self.lossy = true;
                self.unserved |= !of_caller(side);
                self.caller_down |= of_caller(side);
            }
            Fault::HalfOpen { side, .. } => {
                self.lossy = true;
                self.deaf |= of_caller(side);
                self.unserved |= !of_caller(side);
                self.caller_down |= of_caller(side);
                if let Side::Responder(responder) = side {
                    self.gone.add(responder);
                }
            }
            Fault::Kill(responder) | Fault::PowerOff(responder) => {
                self.lossy = true;
                self.gone.add(responder);
                self.unserved = true;
            }
            Fault::Drain(responder) => {
                self.drained.add(responder);
                self.unserved = true;
            }
            Fault::PauseNats(_) => self.caller_down = true,
            Fault::Hold { side, .. } => self.caller_down |= of_caller(side),
            Fault::Delay { .. } | Fault::Throttle { .. } => {}
        }
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.list.join("; "))
    }
}
