//! What follows when an attempt has ended badly: another one, or the verdict.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use natstream_connect::Driver;
use stream_proto::Termination;
use tokio::time::{Instant, sleep};

use crate::attempt::{Attempt, Request};
use crate::error::{Clock, RequestError};
use crate::request::Resume;
use crate::retry::{Ended, RetryPolicy};

/// How often a new attempt is made while the responder may still be on its way back (rule 26).
const GRACE_INTERVAL: Duration = Duration::from_millis(250);

/// Attempts in a row without an item, for calls that can go on after the last one and say nothing else.
const RESUMES: u32 = 5;

/// What to ask for, to go on after an item: see [`RequestBuilder::resume`](crate::RequestBuilder::resume).
#[must_use]
#[derive(Clone, Debug)]
pub struct NextRequest {
    payload: Bytes,
    subject: Option<String>,
    headers: Vec<(String, String)>,
}

impl NextRequest {
    /// A request to the same subject, with the same headers.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            subject: None,
            headers: Vec::new(),
        }
    }

    /// Asks another subject.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets a header, in place of those of this name.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn apply(self, request: &mut Request) {
        let request = &mut request.message;
        request.set_payload(self.payload);
        if let Some(subject) = self.subject {
            request.subject = subject;
        }
        for (name, value) in self.headers {
            request.set_header(&name, &value);
        }
    }
}

type Sending = Pin<Box<dyn Future<Output = Result<Attempt, RequestError>> + Send>>;

/// What another attempt of a call needs. Most calls have none.
pub(crate) struct Recovery {
    request: Request,
    policy: Option<RetryPolicy>,
    resume: Option<Resume>,
    /// The last item that was handed out, for `resume`.
    last: Option<Bytes>,
    /// Attempts in a row that ended badly, but for those that follow by themselves.
    failures: u32,
    /// What the user set; the request has what is left of it.
    first_item_timeout: Option<Duration>,
    /// The attempt was sent soon after an own reconnect.
    is_in_grace: bool,
    /// When the attempt began.
    began: Instant,
    /// The next attempt, while it is being made.
    next: Option<Sending>,
}

impl Recovery {
    /// `None` when nothing can follow the first attempt.
    pub(crate) fn new(
        request: Request,
        policy: Option<RetryPolicy>,
        resume: Option<Resume>,
        is_in_grace: bool,
    ) -> Option<Box<Self>> {
        if policy.is_none() && resume.is_none() && !is_in_grace {
            return None;
        }
        let by_default = || resume.is_some().then(|| RetryPolicy::exponential(RESUMES));
        let began = Driver::clock();
        Some(Box::new(Self {
            policy: policy.or_else(by_default),
            first_item_timeout: request.config.first_item_timeout,
            request,
            resume,
            last: None,
            failures: 0,
            is_in_grace,
            began,
            next: None,
        }))
    }

    /// An item was handed out.
    pub(crate) fn progressed(&mut self, item: &Bytes) {
        if self.resume.is_some() {
            self.last = Some(item.clone());
            self.failures = 0;
        }
    }

    /// Waits for the next attempt, when one is being made.
    pub(crate) fn poll_next_attempt(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Attempt, RequestError>>> {
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let Poll::Ready(sent) = next.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.next = None;
        if let Ok(attempt) = &sent {
            self.is_in_grace = attempt.is_in_grace;
            self.began = Driver::clock();
        }
        Poll::Ready(Some(sent))
    }

    /// Begins another attempt after one that has ended with `error`; false when none follows. `received` counts the items
    /// that were handed out, and is set back when they come again.
    pub(crate) fn begin(&mut self, termination: &Termination, error: &RequestError, received: &mut u64) -> bool {
        let is_in_grace = self.is_in_grace && matches!(termination, Termination::NoResponders);
        if !is_in_grace {
            self.failures = self.failures.saturating_add(1);
        }
        let common = &self.request.message.pool.inner.common;
        if common.is_closed() {
            return false;
        }
        let now = Driver::clock();
        let ended = Ended {
            termination,
            error,
            is_out_of_time: self.request.deadline.is_some_and(|deadline| deadline <= now),
        };
        let resumes = self.last.is_some();
        let delay = if is_in_grace {
            // Beside those of the policy.
            Some(GRACE_INTERVAL)
        } else {
            let policy = self.policy.as_ref();
            policy.and_then(|policy| policy.delay(&ended, self.failures, *received == 0 || resumes))
        };
        let in_time = |delay: &Duration| {
            let deadline = self.request.deadline;
            deadline.is_none_or(|deadline| *delay < deadline.saturating_duration_since(now))
        };
        let Some(delay) = delay.filter(in_time) else {
            return false;
        };
        // What nobody could take costs nobody anything.
        if !is_in_grace && !common.retries.withdraw(now) {
            tracing::debug!(
                subject = self.request.message.subject,
                "the retry budget of the pool is used up"
            );
            return false;
        }
        common.stats.lock().retries += 1;
        tracing::debug!(subject = self.request.message.subject, %error, ?delay, "the call is made again");
        let first_item = &mut self.request.config.first_item_timeout;
        if is_in_grace {
            // For the reader it is one wait: these attempts are not of its choosing.
            let waited = now.saturating_duration_since(self.began) + delay;
            *first_item = first_item.map(|limit| limit.saturating_sub(waited));
        } else {
            *first_item = self.first_item_timeout;
        }
        self.prepare(received);
        let request = self.request.clone();
        self.next = Some(Box::pin(async move {
            sleep(delay).await;
            request.send().await
        }));
        true
    }

    /// Begins another attempt after one that could not be sent; false when none follows.
    pub(crate) fn begin_unsent(&mut self, error: &RequestError, received: &mut u64) -> bool {
        // Where there is no connection, nobody is waited for.
        self.is_in_grace = false;
        // It certainly was not processed.
        error.clock() == Some(Clock::Connect) && self.begin(&Termination::NoResponders, error, received)
    }

    /// Settles what the next attempt asks for.
    fn prepare(&mut self, received: &mut u64) {
        if let (Some(resume), Some(last)) = (&mut self.resume, &self.last) {
            resume(last).apply(&mut self.request);
        } else {
            // From the beginning: what was handed out comes again.
            *received = 0;
        }
    }
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery")
            .field("policy", &self.policy)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}
