//! Which ends a call may have, after what has failed.

use std::time::Duration;

use natstream::{Clock, Code, LostCause, RequestError, RequestErrorKind};

use super::call::{Outcome, Verdict};
use super::plan::{End, Reader, Retry};
use crate::world::Happened;

/// How much later than its deadline a call may end; a busy machine is slow.
const LATE: Duration = Duration::from_secs(5);

/// Checks how a call ended against what its handler sent and what has failed meanwhile.
///
/// # Errors
/// What is wrong about it, as a text.
pub fn judge(outcome: &Outcome, happened: &Happened) -> Result<(), String> {
    let reason = match &outcome.wrong {
        Some(wrong) => Err(wrong.clone()),
        None => check(outcome, happened),
    };
    reason.map_err(|reason| {
        let Outcome {
            plan,
            verdict,
            items,
            attempts,
            ..
        } = outcome;
        let time = outcome.ended - outcome.began;
        let met = happened.during(outcome.began, outcome.ended);
        format!(
            "call {}: {reason}\n  verdict {verdict:?}\n  after {items} of {} items, {attempts} attempts, {time:?}\n  \
             met {met}\n  {plan:?}",
            plan.call,
            plan.sent(),
        )
    })
}

fn check(outcome: &Outcome, happened: &Happened) -> Result<(), String> {
    let plan = &outcome.plan;
    if let Some(deadline) = plan.deadline
        && plan.reader == Reader::Fast
        && outcome.ended - outcome.began > deadline + LATE
    {
        return Err("it outlived its deadline".to_owned());
    }
    match &outcome.verdict {
        Verdict::Left => Ok(()),
        Verdict::Complete if !matches!(plan.end, End::Complete { .. }) => {
            Err("success of a handler that failed".into())
        }
        Verdict::Complete if outcome.items != plan.items => Err("success without all items".to_owned()),
        Verdict::Complete => Ok(()),
        Verdict::Error(error) => check_error(outcome, error, happened),
    }
}

fn check_error(outcome: &Outcome, error: &RequestError, happened: &Happened) -> Result<(), String> {
    let plan = &outcome.plan;
    let met = happened.during(outcome.began, outcome.ended);
    let time = outcome.ended - outcome.began;
    let justified = match error.kind() {
        RequestErrorKind::Failed => {
            let status = error.status().ok_or("a failure without a status")?;
            let planned = plan.failure();
            if planned.is_some_and(|planned| planned.status() == status) {
                if outcome.items != plan.sent() {
                    return Err("the handler's failure came before all its items".to_owned());
                }
                return Ok(());
            }
            // A drain that lets nobody wait.
            status.code == Code::Unavailable && status.retryable && met.drained.may_be(outcome.responder)
        }
        RequestErrorKind::Refused => {
            error.status().is_some_and(|status| status.code == Code::Unavailable) && met.drained.may_be(None)
        }
        RequestErrorKind::Lost => match error.lost_cause() {
            // Its own responder is gone, or one side cannot hear the other for three heartbeats.
            Some(LostCause::Gone | LostCause::Forgotten | LostCause::Silent) => {
                let by_drain = met.drained.may_be(outcome.responder) && met.lossy;
                met.gone.may_be(outcome.responder) || met.deaf || by_drain
            }
            _ => false,
        },
        RequestErrorKind::NoResponders => met.unserved && outcome.responder.is_none(),
        // A leave can lose a request that is on its way (docs/decisions/005-leaving-by-number.md).
        RequestErrorKind::Unanswered => (met.lossy || met.drained.may_be(None)) && outcome.responder.is_none(),
        RequestErrorKind::Timeout => match error.clock() {
            Some(Clock::Connect) => met.caller_down,
            Some(Clock::Deadline) => match (plan.deadline, plan.retry) {
                (Some(deadline), _) if time >= deadline => true,
                (_, Some(Retry::RestartWithin(limit))) => time >= limit,
                _ => false,
            },
            Some(Clock::FirstItem | Clock::Idle) => plan.idle_timeout.is_some_and(|limit| time >= limit),
            _ => false,
        },
        _ => false,
    };
    if !justified {
        return Err("nothing that failed justifies its verdict".to_owned());
    }
    if outcome.attempts == 1 && error.kind() == RequestErrorKind::Lost && error.items() != u64::from(outcome.items) {
        return Err(format!("the error says {} items", error.items()));
    }
    Ok(())
}
