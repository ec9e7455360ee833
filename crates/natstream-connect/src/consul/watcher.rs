//! The driver of a Consul handle: the task that keeps asking.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::answer::Answer;
use super::client::Questions;
use super::error::{ConsulError, ConsulErrorKind};
use super::pace::{Index, Pace};
use crate::reconnect::random;

/// What was found out.
#[derive(Debug)]
pub(super) struct Findings {
    /// Empty until Consul has named some.
    pub(super) servers: watch::Sender<Arc<[String]>>,
    /// Why it named none when it was asked last.
    pub(super) failure: watch::Sender<Option<ConsulError>>,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            servers: watch::Sender::new(Arc::new([])),
            failure: watch::Sender::new(None),
        }
    }
}

/// Who answers.
trait Source: Send + Sync {
    fn ask(&self, index: u64) -> impl Future<Output = Result<Answer, ConsulError>> + Send;

    fn service(&self) -> &str;
}

impl Source for Questions {
    fn ask(&self, index: u64) -> impl Future<Output = Result<Answer, ConsulError>> + Send {
        Self::ask(self, index)
    }

    fn service(&self) -> &str {
        self.service()
    }
}

/// Asks as long as somebody wants to know.
pub(super) async fn watch_over(questions: Arc<Questions>, findings: Arc<Findings>) {
    keep_asking(&*questions, &findings, now).await;
}

#[expect(clippy::disallowed_methods, reason = "this is the driver of a Consul handle")]
fn now() -> Instant {
    Instant::now()
}

/// An answer that was held back this long is no sign of somebody who does not hold back.
const HELD_BACK: Duration = Duration::from_secs(1);

async fn keep_asking<S: Source>(source: &S, findings: &Findings, clock: fn() -> Instant) {
    let asking = async {
        let (mut index, mut pace) = (Index::default(), Pace::default());
        loop {
            let (asked, known) = (clock(), index);
            let pause = match source.ask(index.get()).await {
                Ok(answer) => {
                    index.advance(answer.index);
                    let held_back = clock() - asked >= HELD_BACK;
                    let in_good_order = index != known || held_back;
                    findings.publish(source, answer);
                    pace.answered(in_good_order, random())
                }
                Err(error) => {
                    // What is asked without an index is answered at once: it mends as soon as it can.
                    index.forget();
                    findings.fail(source, error);
                    pace.failed(random())
                }
            };
            sleep(pause).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = findings.servers.closed() => {}
    }
}

impl Findings {
    fn publish(&self, source: &impl Source, answer: Answer) {
        let Answer { servers, filtered, .. } = answer;
        if servers.is_empty() {
            let service = source.service();
            let reason = match filtered {
                true => "; what this token may not read is left out",
                false => "",
            };
            let message = format!("Consul names no healthy instance of `{service}`{reason}");
            return self.fail(source, ConsulError::new(ConsulErrorKind::NoServers, message));
        }
        let changed = self.servers.send_if_modified(|known| {
            let changed = **known != *servers;
            if changed {
                *known = servers.into();
            }
            changed
        });
        if changed {
            tracing::debug!(service = source.service(), servers = ?*self.servers.borrow(), "Consul names servers");
        }
        if self.failure.send_replace(None).is_some() {
            tracing::info!(service = source.service(), "Consul names servers again");
        }
    }

    /// The servers that are known stay. The first failure in a row of one kind is said aloud.
    fn fail(&self, source: &impl Source, error: ConsulError) {
        let (service, kind) = (source.service(), error.kind());
        let cause = std::error::Error::source(&error).map(|cause| cause.to_string());
        let known = self.servers.borrow().len();
        let before = self.failure.send_replace(Some(error.clone()));
        // While none are known, somebody waits for the first, and says what becomes of that.
        if known > 0 && before.is_none_or(|before| before.kind() != kind) {
            tracing::warn!(service, %error, cause, known, "Consul names no servers; those that are known stay");
        } else {
            tracing::debug!(service, %error, cause, "Consul names no servers");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use parking_lot::Mutex;
    use tokio::time::timeout;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Answers from a script, and then never; notes when it was asked, and with what.
    struct Script {
        answers: Mutex<VecDeque<Result<Answer, ConsulError>>>,
        asked: Mutex<Vec<(Duration, u64)>>,
        start: Instant,
        /// What comes after the script, time and again.
        then: fn() -> Option<Result<Answer, ConsulError>>,
    }

    impl Source for Script {
        async fn ask(&self, index: u64) -> Result<Answer, ConsulError> {
            self.asked.lock().push((now() - self.start, index));
            let answer = self.answers.lock().pop_front().or_else(self.then);
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }

        fn service(&self) -> &str {
            "nats"
        }
    }

    fn answer(servers: &[&str], index: u64) -> Result<Answer, ConsulError> {
        Ok(Answer {
            servers: servers.iter().map(|&server| server.to_owned()).collect(),
            index: Some(index),
            filtered: false,
        })
    }

    fn failure() -> Result<Answer, ConsulError> {
        Err(ConsulError::new(ConsulErrorKind::Status, "500"))
    }

    /// Runs the script for an hour.
    async fn run(
        answers: impl IntoIterator<Item = Result<Answer, ConsulError>>,
        then: fn() -> Option<Result<Answer, ConsulError>>,
    ) -> (Script, Findings) {
        let script = Script {
            answers: Mutex::new(answers.into_iter().collect()),
            asked: Mutex::default(),
            start: now(),
            then,
        };
        let findings = Findings::default();
        let _listener = findings.servers.subscribe();
        let running = timeout(HOUR, keep_asking(&script, &findings, now));
        assert!(running.await.is_err(), "it goes on");
        (script, findings)
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_with_the_index_of_the_answer_before() {
        let answers = [
            answer(&["a"], 5),
            answer(&["a", "b"], 8),
            answer(&["b"], 3),
            answer(&["c"], 4),
        ];
        let (script, findings) = run(answers, || None).await;
        let indices: Vec<u64> = script.asked.lock().iter().map(|(_, index)| *index).collect();
        assert_eq!(indices, [0, 5, 8, 0, 4], "one that goes back begins again");
        assert_eq!(**findings.servers.borrow(), ["c".to_owned()]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_and_an_empty_list_change_nothing() {
        let (_, findings) = run([answer(&["a"], 5), failure(), answer(&[], 6)], || None).await;
        assert_eq!(**findings.servers.borrow(), ["a".to_owned()]);
        let kind = findings.failure.borrow().as_ref().map(ConsulError::kind);
        assert_eq!(kind, Some(ConsulErrorKind::NoServers));

        let (_, findings) = run([failure(), answer(&["a"], 5)], || None).await;
        assert!(findings.failure.borrow().is_none(), "it mends");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_it_asks_from_the_beginning() {
        let (script, _) = run([answer(&["a"], 5), failure(), answer(&["a"], 5)], || None).await;
        let indices: Vec<u64> = script.asked.lock().iter().map(|(_, index)| *index).collect();
        assert_eq!(indices, [0, 5, 0, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_consul_that_fails_for_an_hour_is_not_hammered() {
        let (script, _) = run([], || Some(failure())).await;
        let asked = script.asked.lock();
        let early = asked.iter().filter(|(at, _)| *at < Duration::from_secs(3)).count();
        assert!((5..=7).contains(&early), "{early} within the first three seconds");
        assert!((120..=260).contains(&asked.len()), "{}", asked.len());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_hold_back_is_not_hammered_either() {
        for then in [
            (|| Some(answer(&["a"], 5))) as fn() -> _,
            || {
                let mut answer = answer(&["a"], 0).ok()?;
                answer.index = None;
                Some(Ok(answer))
            },
            || Some(answer(&["a"], 0)),
        ] {
            let (script, findings) = run([], then).await;
            assert!(script.asked.lock().len() <= 260, "{}", script.asked.lock().len());
            assert!(findings.failure.borrow().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_flaps_is_asked_about_ten_times_a_second() {
        static INDEX: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let flaps = || {
            let index = INDEX.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Some(answer(&[if index.is_multiple_of(2) { "a" } else { "b" }], index))
        };
        let (script, _) = run([], flaps).await;
        assert!(script.asked.lock().len() <= 36_001);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_change_is_published() {
        let findings = Findings::default();
        let mut listener = findings.servers.subscribe();
        let script = Script {
            answers: Mutex::default(),
            asked: Mutex::default(),
            start: now(),
            then: || None,
        };
        findings.publish(&script, answer(&["a"], 1).unwrap());
        assert!(listener.has_changed().unwrap());
        listener.mark_unchanged();
        findings.publish(&script, answer(&["a"], 2).unwrap());
        assert!(!listener.has_changed().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nobody_listens() {
        let script = Script {
            answers: Mutex::default(),
            asked: Mutex::default(),
            start: now(),
            then: || None,
        };
        let findings = Findings::default();
        let listener = findings.servers.subscribe();
        let (ended, ()) = tokio::join!(timeout(HOUR, keep_asking(&script, &findings, now)), async {
            sleep(Duration::from_secs(1)).await;
            drop(listener);
        });
        ended.unwrap();
    }
}
