//! The answer to a call.

use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_core::Stream;
use stream_proto::{Items, Termination};
use tokio::task::coop;

use crate::attempt::Attempt;
use crate::call::Next;
use crate::error::RequestError;
use crate::observed::{Figures, Observed};
use crate::recovery::Recovery;

/// What the end of a stream proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Guarantee {
    /// Nothing: a lost, repeated or foreign item cannot be noticed (text and sentinel dialects).
    Plain,
    /// All items arrived; a loss is seen, but not repaired (native without control).
    Detected,
    /// All items arrived, each once, in order; losses are repaired (native).
    Complete,
}

/// The answer to a call: items in order, each once, then at most one error, then `None`.
///
/// `None` without an error means that the answer is complete, as far as [`guarantee`](Self::guarantee) says. Dropping it cancels
/// the call: the handler is told, if the dialect has a way.
///
/// An item keeps up to 64 KiB alive, the buffer that it came in; copy items that are kept for long.
///
/// # Panics
/// Reading panics outside of a tokio runtime when the call is made again.
#[must_use = "dropping `Responses` cancels the call"]
pub struct Responses {
    attempt: Attempt,
    subject: Arc<str>,
    items: Items,
    received: u64,
    termination: Option<Box<Termination>>,
    is_done: bool,
    /// What another attempt needs; most calls have none.
    recovery: Option<Box<Recovery>>,
    attempts: u32,
    /// Of the attempts before.
    reconnects: u32,
    retransmitted: u64,
    /// The least that the attempts before prove whose items were handed out and do not come again.
    proven: Guarantee,
    observed: Observed,
}

impl Responses {
    pub(crate) fn new(
        attempt: Attempt,
        subject: Arc<str>,
        recovery: Option<Box<Recovery>>,
        observed: Observed,
    ) -> Self {
        Self {
            attempt,
            subject,
            items: Items::default(),
            received: 0,
            termination: None,
            is_done: false,
            recovery,
            attempts: 1,
            reconnects: 0,
            retransmitted: 0,
            proven: Guarantee::Complete,
            observed,
        }
    }

    /// The next item.
    ///
    /// # Errors
    /// The verdict, once, when it is not success: see [`RequestErrorKind`](crate::RequestErrorKind).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Bytes, RequestError>> {
        // Most items wait in the message that is being read.
        if let Some(item) = self.take() {
            return Some(Ok(item));
        }
        let mut waiting = Waiting {
            responses: self,
            is_pending: false,
        };
        std::future::poll_fn(|cx| {
            let next = Pin::new(&mut *waiting.responses).poll_next(cx);
            waiting.is_pending = next.is_pending();
            next
        })
        .await
    }

    /// The next item, or `None` at the end of a complete answer.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn try_next(&mut self) -> Result<Option<Bytes>, RequestError> {
        self.next().await.transpose()
    }

    /// Calls `f` with each item until the end, or until it breaks, which cancels the call and counts as success.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call.
    pub async fn for_each(mut self, mut f: impl FnMut(Bytes) -> ControlFlow<()>) -> Result<(), RequestError> {
        while let Some(item) = self.try_next().await? {
            if f(item).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// All items, if they have at most `limit` bytes together. An item counts 32 bytes more than it has. After a
    /// [restart](crate::RetryPolicy::restart), those of the last attempt.
    ///
    /// # Errors
    /// As [`next`](Self::next); `Cancelled` when the limit is exceeded. The items are lost then.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call; items already received are lost.
    pub async fn collect_all(mut self, limit: usize) -> Result<Vec<Bytes>, RequestError> {
        let mut items = Vec::new();
        self.collect_into(&mut items, limit).await?;
        Ok(items)
    }

    /// Reads to the end, and appends all items to `items`, where they stay whatever the verdict is: that is what it returns.
    ///
    /// They have at most `limit` bytes together, counted as by [`collect_all`](Self::collect_all). After a
    /// [restart](crate::RetryPolicy::restart) those of the last attempt are there; items that were read before this call are
    /// the reader's. What else is known of the call can be asked for afterwards: [`trailers`](Self::trailers),
    /// [`guarantee`](Self::guarantee) and so on.
    ///
    /// ```no_run
    /// # async fn example(pool: stream_client::Pool) -> Result<(), stream_client::RequestError> {
    /// let mut rows = pool.request_stream("rows.all", "").await?;
    /// let mut items = Vec::new();
    /// if let Err(error) = rows.collect_into(&mut items, 16 << 20).await {
    ///     eprintln!("{} rows are here, then: {error}", items.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`next`](Self::next); `Cancelled` when the limit is exceeded: the call is cancelled, and the item that was too much
    /// is lost.
    ///
    /// # Cancel safety
    /// Nothing is lost: what has come is in `items`, and another call goes on, with the limit for itself. Only after a restart
    /// in between it does not know what to take back.
    pub async fn collect_into(&mut self, items: &mut Vec<Bytes>, limit: usize) -> Result<(), RequestError> {
        self.read_into(items, limit, |_index, item| Ok(item)).await
    }

    /// Reads to the end, or until an item is none; each becomes what `read` makes of it and its number.
    pub(crate) async fn read_into<T>(
        &mut self,
        items: &mut Vec<T>,
        limit: usize,
        read: impl Fn(u64, Bytes) -> Result<T, RequestError>,
    ) -> Result<(), RequestError> {
        let start = items.len();
        let mut size = 0usize;
        let verdict = loop {
            let item = match self.try_next().await {
                Ok(Some(item)) => item,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if self.received == 1 {
                // The first one, or the first one again after a restart.
                items.truncate(start);
                size = 0;
            }
            // Empty items cost memory too.
            size = size.saturating_add(item.len() + size_of::<Bytes>());
            if size > limit {
                self.give_up();
                return Err(RequestError::too_much(&self.subject, self.received, limit));
            }
            items.push(read(self.received - 1, item)?);
        };
        if self.received == 0 {
            items.truncate(start);
        }
        verdict
    }

    /// Cancels the call, of which nothing is wanted any more.
    fn give_up(&mut self) {
        self.attempt.call.cancel();
        self.attempt.ended();
        self.items = Items::default();
        self.is_done = true;
        self.termination = Some(Box::new(Termination::Cancelled));
    }

    /// The value of a header of the first message, once it is here: one that the handler has added, the first if there are
    /// several. Names are case-sensitive, as in NATS.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.attempt.call.header(name)
    }

    /// All headers of the first message, once it is here, if the handler has added any. They are copied: for one of them,
    /// there is [`header`](Self::header).
    #[must_use]
    pub fn headers(&self) -> Option<HeaderMap> {
        self.attempt.call.metadata()
    }

    /// How the stream ended, once the end was reached. `None` where another attempt could not be sent.
    #[must_use]
    pub fn termination(&self) -> Option<&Termination> {
        self.termination.as_deref()
    }

    /// What the handler sent with a successful end.
    #[must_use]
    pub fn trailers(&self) -> Option<&Bytes> {
        match self.termination.as_deref() {
            Some(Termination::Ended { trailers, .. }) => Some(trailers),
            _ => None,
        }
    }

    /// What a successful end of this stream proves. With [`AutoText`](crate::Dialect::AutoText) and
    /// [`AutoSentinel`](crate::Dialect::AutoSentinel) it is the least until the responder has shown itself.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        self.attempt.call.guarantee().min(self.proven)
    }

    /// Which attempt this is; 1 is the first.
    ///
    /// Others follow as [`retry`](crate::RequestBuilder::retry) and [`resume`](crate::RequestBuilder::resume) say, and by themselves
    /// when nobody took the call within the first seconds after a reconnect of this side: the responder may still have been
    /// on its way back.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempts
    }

    /// How often this side's connection was lost during the call. A call that goes on has seen it come back.
    #[must_use]
    pub fn reconnects(&self) -> u32 {
        self.reconnects + self.attempt.call.reconnects()
    }

    /// Items handed out so far; with a [restart](crate::RetryPolicy::restart), those of this attempt.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Messages that arrived a second time and were dropped.
    #[must_use]
    pub fn retransmitted(&self) -> u64 {
        self.retransmitted + self.attempt.call.stats().retransmitted
    }

    /// The subject that was asked first.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The next item of the message that is being read.
    fn take(&mut self) -> Option<Bytes> {
        let item = self.items.next()?;
        self.received += 1;
        if let Some(recovery) = &mut self.recovery {
            recovery.progressed(&item);
        }
        Some(item)
    }

    /// Begins another attempt in place of one that has failed; false when none follows.
    fn begin_again(&mut self, termination: &Termination, error: &RequestError) -> bool {
        let recovery = self.recovery.as_mut();
        recovery.is_some_and(|recovery| recovery.begin(termination, error, &mut self.received))
    }

    /// Waits for the next attempt, if one is being made.
    fn poll_next_attempt(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), RequestError>>> {
        let Some(recovery) = &mut self.recovery else {
            return Poll::Ready(None);
        };
        let Some(sent) = ready!(recovery.poll_next_attempt(cx)) else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match sent {
            Ok(attempt) => {
                self.reconnects += self.attempt.call.reconnects();
                self.retransmitted += self.attempt.call.stats().retransmitted;
                self.attempts += 1;
                self.proven = if self.received > 0 {
                    self.proven.min(self.attempt.call.guarantee())
                } else {
                    Guarantee::Complete
                };
                self.attempt = attempt;
                Ok(())
            }
            Err(error) if recovery.begin_unsent(&error, &mut self.received) => Ok(()),
            Err(error) => {
                self.is_done = true;
                self.tell(Some(&error));
                Err(error.after(self.received))
            }
        }))
    }

    fn figures(&self) -> Figures {
        Figures {
            items: self.received,
            attempts: self.attempts,
            reconnects: self.reconnects(),
            retransmitted: self.retransmitted(),
        }
    }

    /// Tells whoever observes the call of its verdict.
    fn tell(&mut self, error: Option<&RequestError>) {
        if !self.observed.is_over() {
            let figures = self.figures();
            self.observed.ended(error, figures);
        }
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        if !self.observed.is_over() {
            let figures = self.figures();
            self.observed.abandoned(figures);
        }
    }
}

/// The user's wait: when it is given up, the clock of the wait stands still (rule 57).
struct Waiting<'a> {
    responses: &'a mut Responses,
    is_pending: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_pending {
            self.responses.attempt.call.pause();
        }
    }
}

/// As a stream, the user counts as waiting from one pending poll to the next item; [`next`](Responses::next) knows better.
impl Stream for Responses {
    type Item = Result<Bytes, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(item) = self.take() {
                return Poll::Ready(Some(Ok(item)));
            }
            if self.is_done {
                return Poll::Ready(None);
            }
            if let Some(sent) = ready!(self.poll_next_attempt(cx)) {
                match sent {
                    Ok(()) => continue,
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
            // Once a message, not once an item: a reader that is always behind lets others run.
            let coop = ready!(coop::poll_proceed(cx));
            let next = ready!(self.attempt.call.poll_next(cx));
            coop.made_progress();
            match next {
                Next::Items(items) => {
                    self.observed.came(&items);
                    self.items = items;
                }
                Next::End(termination) => {
                    self.attempt.ended();
                    let error = RequestError::from_termination(&self.subject, self.received, &termination);
                    if let Some(error) = &error
                        && self.begin_again(&termination, error)
                    {
                        continue;
                    }
                    self.is_done = true;
                    self.tell(error.as_ref());
                    self.termination = Some(Box::new(termination));
                    return Poll::Ready(error.map(Err));
                }
            }
        }
    }
}

impl fmt::Debug for Responses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responses")
            .field("subject", &self.subject)
            .field("received", &self.received)
            .field("termination", &self.termination)
            .finish_non_exhaustive()
    }
}
