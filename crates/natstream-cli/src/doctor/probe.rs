//! A test answer, from the program that serves a subject.

use std::time::Duration;

use natstream::connect::Operation;
use natstream::proto::{Clock, Denied, INBOX_PREFIX, ProtocolError, is_mapped};
use natstream::{Connection, LostCause, Pool, RequestError, Termination};
use tokio::time::timeout;

use super::finding::Finding;
use super::server::display;
use super::user::{GRANT, allow};
use crate::clock::now;
use crate::session::{Refusal, Refusals};

/// A test answer has so many items, each in a message of its own.
const ITEMS: u64 = 3;

/// The shortest there is: an answer that was cut is known after three of them.
const HEARTBEAT: Duration = Duration::from_secs(1);

const CHECK: &str = "answer";

/// When nats-server has refused what the end of a call sends, if it does.
const REFUSAL: Duration = Duration::from_millis(300);

/// Asks for a test answer. `watch_credit`: does it take a call to see whether this user may give credit?
pub(super) async fn check(connection: &Connection, subject: &str, watch_credit: bool, limit: Duration) -> Finding {
    let mut refusals = Refusals::of(connection);
    let started = now();
    let outcome = ask(connection, subject, limit).await;
    let time = started.elapsed();
    let end = outcome.as_ref().map(|(end, _)| end);
    let is_in_doubt = match end {
        // The answer is shorter than the first window, and needs no credit; but its end is confirmed in the same way.
        Ok(Termination::Ended { .. }) => watch_credit,
        Ok(Termination::NotPermitted(Denied::Control)) => true,
        _ => false,
    };
    if is_in_doubt && let Some(inbox) = refused_control(connection, &mut refusals).await {
        return no_control(subject, Some(&below(&inbox, connection.inbox_prefix())));
    }
    match outcome {
        Ok((termination, items)) => judge(subject, &termination, items, time),
        Err(error) => match error.denied() {
            Some(denied) => not_permitted(subject, denied),
            None => Finding::wrong(CHECK, with_causes(&error)),
        },
    }
}

/// The responder's inbox, if nats-server refuses messages to it. Its prefix is its own affair.
async fn refused_control(connection: &Connection, refusals: &mut Refusals) -> Option<String> {
    let own = connection.inbox_prefix();
    let is_control = |refusal: &Refusal| {
        let subject = refusal.subject.as_str();
        let below_own = subject.strip_prefix(own).and_then(|below| below.strip_prefix('.'));
        // A round trip of our own has a single token there.
        let is_own = below_own.is_some_and(|below| !below.contains('.'));
        let is_inbox = is_mapped(subject) || subject.starts_with(INBOX_PREFIX) || below_own.is_some();
        refusal.operation == Operation::Publish && is_inbox && !is_own
    };
    let refused = timeout(REFUSAL, async {
        loop {
            let refusal = refusals.next().await;
            if is_control(&refusal) {
                return refusal.subject;
            }
        }
    });
    refused.await.ok()
}

/// How the answer ended, and after how many items; an error when there was no call.
async fn ask(connection: &Connection, subject: &str, limit: Duration) -> Result<(Termination, u64), RequestError> {
    let request = Pool::new(connection.clone())
        .request_stream(subject, "")
        .connect_timeout(limit)
        .deadline(limit)
        .heartbeat(HEARTBEAT)
        .probe();
    let mut responses = request.await?;
    let error = loop {
        match responses.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    match (responses.termination(), error) {
        (Some(termination), _) => Ok((termination.clone(), responses.received())),
        (None, Some(error)) => Err(error),
        // The end is reached, and the stream says how; this is for the compiler.
        (None, None) => Ok((Termination::Unanswered, 0)),
    }
}

fn judge(subject: &str, termination: &Termination, items: u64, time: Duration) -> Finding {
    let time = display(time);
    let wrong = |text: &str| Finding::wrong(CHECK, format!("`{subject}` {text}"));
    match termination {
        Termination::Ended { items: ITEMS, .. } => {
            Finding::ok(CHECK, format!("`{subject}` gives a whole answer, in {time}"))
        }
        Termination::Ended { .. } => Finding::warning(
            CHECK,
            format!("`{subject}` gives a whole answer, in {time}, but not to a test: an older natstream, whose handler ran"),
        ),
        Termination::NoResponders => wrong("is served by nobody, as far as this account sees")
            .with_fix(format!("natstream serve {subject} …"))
            .and_fix(format!(
                "or, when another account serves it: imports: [{{ service: {{ account: NAME, subject: \"{subject}\" }} }}]"
            )),
        Termination::NotPermitted(denied) => not_permitted(subject, *denied),
        Termination::Lost {
            cause: LostCause::SingleResponse,
            ..
        } => wrong("answers across accounts, and the export lets one message through: all longer answers are cut")
            .with_fix(format!("exports: [{{ service: \"{subject}\", response_type: stream }}]")),
        Termination::Lost {
            cause: LostCause::Silent | LostCause::Forgotten,
            ..
        } => wrong("begins to answer, and breaks off: its user may answer with too few messages")
            .with_fix(of_the_other(GRANT)),
        Termination::Lost { cause, .. } => wrong(&format!("begins to answer, and the answer is lost: {cause:?}")),
        Termination::Protocol(ProtocolError::ForeignAnswer) => {
            wrong("is served by a program that does not speak natstream").with_fix("--dialect auto:text")
        }
        Termination::Protocol(error) => wrong(&format!("breaks the protocol: {error}")),
        Termination::Refused(status) => wrong(&format!("refuses calls: {status}")),
        Termination::Failed(status) => wrong(&format!("fails: {status}")),
        Termination::TimedOut(Clock::Deadline) if items > 0 => {
            wrong(&format!("begins to answer, and is not done after {time}; with more time, more is known"))
                .with_fix("--timeout 5s")
        }
        Termination::Unanswered | Termination::TimedOut(Clock::Deadline) => {
            wrong("is served, and no answer comes: the user who serves it may not answer, or its process stands still")
                .with_fix(of_the_other(GRANT))
        }
        other => wrong(&format!("does not answer: {other:?}")),
    }
}

fn not_permitted(subject: &str, denied: Denied) -> Finding {
    match denied {
        // Whoever may ask for its permissions knows before, and it may be one who serves only.
        Denied::Request => Finding::warning(
            CHECK,
            format!("this user may not call `{subject}`, and whether it may serve it is not known"),
        )
        .with_fix(allow("publish", &[subject])),
        Denied::Inbox => Finding::wrong(CHECK, "this user may not subscribe to its inbox")
            .with_fix(allow("subscribe", &["_INBOX.>"]))
            .and_fix("or, with a prefix that it may subscribe to: --inbox-prefix PREFIX"),
        _ => no_control(subject, None),
    }
}

/// Calls get no credit: the user may not publish to inboxes of this pattern, if it is known, where the responder's is.
fn no_control(subject: &str, inboxes: Option<&str>) -> Finding {
    let fix = match inboxes {
        Some(inboxes) => allow("publish", &[inboxes]),
        None => allow("publish", &["_INBOX.>", "_R_.>"]),
    };
    Finding::wrong(
        CHECK,
        format!(
            "this user may not publish to the inbox of who serves `{subject}`: calls stop when their first window is full"
        ),
    )
    .with_fix(fix)
    .and_fix(format!("or: {GRANT}"))
    .and_fix("or, where it is served with --allow-uncontrolled: call --no-control")
}

/// All inboxes with the prefix of this one, which is ours, or has no dot as far as is known.
fn below(inbox: &str, own: &str) -> String {
    let is_own = inbox.strip_prefix(own).is_some_and(|below| below.starts_with('.'));
    let first = inbox.split('.').next().unwrap_or(inbox);
    format!("{}.>", if is_own { own } else { first })
}

/// The line belongs to the user who serves.
fn of_the_other(fix: &str) -> String {
    format!("{fix}  # of the user who serves it")
}

fn with_causes(error: &RequestError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use natstream::{Code, Status};

    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn an_inbox_has_the_prefix_that_is_known() {
        assert_eq!(below("_INBOX_orders.c.t.1", "_INBOX_shop"), "_INBOX_orders.>");
        assert_eq!(below("_INBOX.c.t", "_INBOX_shop"), "_INBOX.>");
        assert_eq!(below("shop.in.c.t", "shop.in"), "shop.in.>");
        assert_eq!(below("shop.input.c.t", "shop.in"), "shop.>");
        assert_eq!(below("_R_.a.b", "_INBOX"), "_R_.>");
    }

    #[test]
    fn an_answer_that_began_is_not_taken_for_none() {
        let fix = |items| {
            let finding = judge(
                "a.b",
                &Termination::TimedOut(Clock::Deadline),
                items,
                Duration::from_secs(1),
            );
            finding.fix.unwrap()
        };
        assert_ne!(fix(0), fix(1));
    }

    #[test]
    fn every_end_is_judged() {
        let ended = |items| Termination::Ended {
            items,
            trailers: Bytes::new(),
        };
        let lost = |cause| Termination::Lost { items: 1, cause };
        let status = || Status::new(Code::Unavailable, "full");
        for (termination, level, fix) in [
            (ended(ITEMS), Level::Ok, ""),
            (ended(0), Level::Warning, ""),
            (Termination::NoResponders, Level::Wrong, "natstream serve a.b"),
            (
                Termination::NotPermitted(Denied::Request),
                Level::Warning,
                r#"publish: { allow: ["a.b"]"#,
            ),
            (
                Termination::NotPermitted(Denied::Control),
                Level::Wrong,
                r#"["_INBOX.>", "_R_.>"]"#,
            ),
            (Termination::NotPermitted(Denied::Inbox), Level::Wrong, "subscribe"),
            (
                lost(LostCause::SingleResponse),
                Level::Wrong,
                r#"exports: [{ service: "a.b", response_type: stream }]"#,
            ),
            (lost(LostCause::Silent), Level::Wrong, "max: -1"),
            (lost(LostCause::Forgotten), Level::Wrong, "max: -1"),
            (lost(LostCause::Gone), Level::Wrong, ""),
            (
                Termination::Protocol(ProtocolError::ForeignAnswer),
                Level::Wrong,
                "--dialect auto:text",
            ),
            (Termination::Protocol(ProtocolError::Header), Level::Wrong, ""),
            (Termination::Refused(status()), Level::Wrong, ""),
            (Termination::Failed(status()), Level::Wrong, ""),
            (Termination::Unanswered, Level::Wrong, "max: -1"),
            (Termination::TimedOut(Clock::Deadline), Level::Wrong, "max: -1"),
            (Termination::Cancelled, Level::Wrong, ""),
        ] {
            let finding = judge("a.b", &termination, 0, Duration::from_millis(1));
            assert_eq!(finding.level, level, "{finding:?}");
            let said = finding.fix.unwrap_or_default();
            assert_eq!(said.is_empty(), fix.is_empty(), "{termination:?}");
            assert!(said.contains(fix), "{termination:?}: {said}");
        }
    }
}
