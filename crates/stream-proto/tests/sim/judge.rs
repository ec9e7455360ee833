//! Which verdict a call may have, given what really happened to it.
//!
//! The promise, precisely. A call gets what its handler said, unless its user ended it first, when
//!
//! - the weather is `Calm`, or
//! - the weather is `Outages` (each side is away for at most 4 s at a time, and less than `2 h`; no single message is
//!   lost otherwise), both sides are in one account, and the caller was locked before.
//!
//! Across accounts the second also holds while the caller's connection lives and the alias of the reply subject does.
//! Everything else needs evidence: a message of this call that was lost, a 503 that it got.

use stream_proto::{Clock, CloseReason, Code, LostCause, Termination};

use crate::attempt::Attempt;
use crate::caller::Call;
use crate::nats::Nats;
use crate::plan::{Plan, ReaderPlan, Weather};
use crate::record::{Record, Shared};
use crate::time::{MS, Nanos, S};

/// The verdict has come, and perhaps before the user has read all items.
///
/// # Errors
/// When it cannot be right.
pub(crate) fn termination(
    now: Nanos,
    attempt: &Attempt,
    call: &Call,
    last_reconnect: Option<Nanos>,
    plan: &Plan,
    shared: &Shared,
) -> Result<(), String> {
    let Some(termination) = &attempt.termination else {
        return Ok(());
    };
    let case = Case {
        now,
        attempt,
        call,
        last_reconnect,
        plan,
        shared,
    };
    let wrong = match termination {
        Termination::Cancelled => (!call.is_cancelled).then_some("nobody cancelled"),
        Termination::Ended { .. } => None,
        Termination::Failed(status) => case.failed(status.code),
        Termination::Refused(_) => {
            let was_refused = case.answers().any(|record| record.is_refusal);
            (!was_refused).then_some("nobody refused")
        }
        Termination::NoResponders => case.no_responders(),
        Termination::Unanswered => case.unanswered(),
        Termination::TimedOut(clock) => case.timed_out(*clock),
        Termination::Lost { cause, .. } => case.lost(*cause),
        Termination::Protocol(_) => (!attempt.foreign || attempt.sid.is_some()).then_some("nobody broke the protocol"),
        _ => Some("unknown to the judge"),
    };
    match wrong {
        None => Ok(()),
        Some(why) => Err(format!(
            "call {}, {}: {termination:?} is not right: {why} ({:?}, {}, locked {:?}, sid heard {:?} ago)",
            attempt.call,
            attempt.token,
            plan.weather,
            if plan.cross { "two accounts" } else { "one account" },
            attempt.sid,
            std::time::Duration::from_nanos(now - attempt.last_valid),
        )),
    }
}

/// The user has everything that it will get: is it what the verdict says?
///
/// # Errors
/// When it is not.
pub(crate) fn items(attempt: &Attempt, verdict: &Termination, shared: &Shared) -> Result<(), String> {
    let got = attempt.delivered.len();
    let mut candidates = shared
        .answers(&attempt.token)
        .filter(|(index, record)| attempt.may_be(*index) && attempt.sid.is_none_or(|sid| sid == record.sid))
        .map(|(_, record)| record);
    let is_right = match verdict {
        Termination::Ended { items, trailers } => candidates.any(|record| {
            let status = record.status.as_ref();
            let is_end = status.is_some_and(|status| status.is_ok() && status.details == *trailers);
            is_end && record.sent.len() == got && *items == got as u64
        }),
        Termination::Failed(failure) => candidates.any(|record| {
            let is_end = record.status.as_ref().is_some_and(|status| status == failure);
            // Only what was accepted before an ordinary end precedes it (rule 51).
            is_end && (record.closed.is_some() || record.sent.len() == got)
        }),
        Termination::Refused(_) | Termination::NoResponders | Termination::Unanswered => got == 0,
        Termination::Lost { items, .. } => *items == got as u64,
        _ => true,
    };
    if is_right {
        return Ok(());
    }
    Err(format!("rule 52: {verdict:?} after {got} items of {}", attempt.token))
}

/// For the statistics.
pub(crate) fn name(verdict: &Termination) -> String {
    match verdict {
        Termination::Ended { .. } => "Ended".to_owned(),
        Termination::Failed(status) => format!("Failed({})", status.code),
        Termination::Lost { cause, .. } => format!("Lost({cause:?})"),
        Termination::Refused(_) => "Refused".to_owned(),
        Termination::Protocol(_) => "Protocol".to_owned(),
        other => format!("{other:?}"),
    }
}

struct Case<'a> {
    now: Nanos,
    attempt: &'a Attempt,
    call: &'a Call,
    last_reconnect: Option<Nanos>,
    plan: &'a Plan,
    shared: &'a Shared,
}

type Wrong = Option<&'static str>;

impl<'a> Case<'a> {
    fn answers(&self) -> impl Iterator<Item = &'a Record> {
        self.shared.answers(&self.attempt.token).map(|(_, record)| record)
    }

    fn nats(&self) -> &'a Nats {
        &self.shared.nats
    }

    fn locked(&self) -> Option<&'a Record> {
        let sid = self.attempt.sid?;
        self.answers().find(|record| record.sid == sid)
    }

    fn is_uncontrolled(&self) -> bool {
        self.plan.calls[self.attempt.call].is_uncontrolled
    }

    fn was_reconnected(&self) -> bool {
        self.last_reconnect.is_some_and(|at| at >= self.attempt.opened)
    }

    /// How often something of the call was lost or late in the last `time`.
    fn disturbances(&self, time: Nanos) -> usize {
        let since = self.now.saturating_sub(time);
        let sockets = &self.nats().sockets;
        let towards = sockets.disturbances(&self.attempt.token, since);
        let back: usize = self
            .answers()
            .map(|record| sockets.disturbances(&record.control, since))
            .sum();
        towards + back
    }

    fn failed(&self, code: Code) -> Wrong {
        let Some(record) = self.locked() else {
            return Some("no stream was locked");
        };
        if record.status.as_ref().map(|status| status.code) != Some(code) {
            return Some("the handler said something else");
        }
        let is_eager = matches!(self.plan.calls[self.attempt.call].reader, ReaderPlan::Eager);
        match record.closed {
            Some(CloseReason::Stalled) if is_eager && self.disturbances(u64::MAX) == 0 => {
                Some("an eager reader cannot make a stream stall")
            }
            Some(CloseReason::Deadline) => self.timed_out(Clock::Deadline),
            _ => None,
        }
    }

    fn no_responders(&self) -> Wrong {
        let got = !self.attempt.no_responders.is_empty();
        (!got || self.attempt.sid.is_some()).then_some("it got no 503 before the lock")
    }

    fn unanswered(&self) -> Wrong {
        if self.attempt.sid.is_some() {
            return Some("it was locked");
        }
        let since = self.last_reconnect.unwrap_or_default().max(self.attempt.opened);
        if self.now < since + 5 * S {
            return Some("5 s are not over (rule 27)");
        }
        (self.disturbances(u64::MAX) == 0).then_some("nothing was lost")
    }

    fn timed_out(&self, clock: Clock) -> Wrong {
        let wish = &self.plan.calls[self.attempt.call];
        let (limit, since) = match clock {
            Clock::Deadline => (wish.deadline, self.call.started.unwrap_or_default()),
            Clock::FirstItem => (wish.first_item, self.attempt.opened),
            _ => (wish.idle, self.attempt.opened),
        };
        let Some(limit) = limit else {
            return Some("there is no such clock");
        };
        if self.now < since + limit {
            return Some("its time is not over");
        }
        None
    }

    fn lost(&self, cause: LostCause) -> Wrong {
        let heartbeat = self.plan.heartbeat;
        let is_cross = self.plan.cross;
        // Silence since the first message (rule 63).
        let cause = match cause {
            LostCause::SingleResponse if is_cross => LostCause::Silent,
            cause => cause,
        };
        let weather = self.plan.weather;
        if self.attempt.sid.is_none() {
            // Without a stream only the connection, or an alias, can be lost.
            match cause {
                LostCause::Disconnected => {}
                LostCause::MappingEnded if is_cross && (self.attempt.bare_empty || self.was_reconnected()) => {}
                _ => return Some("it was not locked"),
            }
        }
        let wrong = match cause {
            LostCause::Silent => {
                let silence = self.now - self.attempt.last_valid;
                (silence + MS < 3 * heartbeat).then_some("something was heard in the last 3 h (rule 48)")
            }
            LostCause::Gone => {
                let recent = |at: &&Nanos| **at + 6 * S > self.now;
                let count = self.attempt.no_responders.iter().filter(recent).count();
                (count < 4).then_some("there was no 503 for 5 s (rule 49)")
            }
            LostCause::Forgotten => (!self.attempt.reset).then_some("there was no RESET (rule 50)"),
            LostCause::MappingEnded => {
                let may_be = self.attempt.bare_empty || self.was_reconnected();
                (!is_cross || !may_be).then_some("no alias ended (rule 62)")
            }
            LostCause::Gap => {
                // A repetition may overtake what was sent before it, and an intruder's unit looks like one of the stream.
                let is_excused =
                    self.disturbances(u64::MAX) > 0 || self.plan.repetition > 0 || !self.plan.intrusions.is_empty();
                let is_wrong = !self.is_uncontrolled() || !is_excused;
                is_wrong.then_some("nothing was missing, or it could be asked for (rule 66)")
            }
            LostCause::Disconnected if self.is_uncontrolled() => {
                let may_be = matches!(weather, Weather::Outages | Weather::Wild);
                (!may_be).then_some("the connection was not away (rule 66)")
            }
            LostCause::Disconnected => {
                let plan = self.plan.weather == Weather::Wild;
                (!plan).then_some("the connection was not away for 30 s (rule 45)")
            }
            _ => Some("unknown to the judge"),
        };
        if wrong.is_some() {
            return wrong;
        }
        match weather {
            // What is missing was looked for above.
            _ if self.is_uncontrolled() => None,
            Weather::Calm => Some("nothing may be lost in calm weather"),
            Weather::Lossy => {
                // Two beats fall into 3 h; any other end needs only one message to be lost. A responder that has gone before
                // had its losses before.
                let gone = self.locked().is_some_and(|record| record.is_forgotten);
                let lost = self.disturbances(if gone { u64::MAX } else { 4 * heartbeat });
                let enough = match cause {
                    // The last unit, which locked it, is repeated three times; each names the control subject.
                    LostCause::Silent if self.attempt.control.is_none() => 3,
                    LostCause::Silent => 2,
                    _ => 1,
                };
                (lost < enough).then_some("too little was lost for that")
            }
            Weather::Outages if !is_cross => Some("one account, short outages: it must be mended"),
            Weather::Outages => {
                let is_excused = self.was_reconnected() || self.has_alias_ended();
                (!is_excused).then_some("neither the caller's connection nor the alias was lost")
            }
            Weather::Wild => None,
        }
    }

    /// Has an alias of the reply subject ended that the responder did not end?
    fn has_alias_ended(&self) -> bool {
        let (nats, now) = (self.nats(), self.now);
        nats.aliases.iter().any(|(name, alias)| {
            let is_its = !alias.is_control && alias.target == self.attempt.token;
            is_its && !alias.was_emptied && !nats.is_alias_alive(now, name)
        })
    }
}
