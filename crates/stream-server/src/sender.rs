//! What a handler sends with.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;
use natstream_connect::{Codec as _, Json};
use serde::Serialize;
use stream_proto::{CloseReason, Status};
use tokio::task::coop;

use crate::error::{HandlerError, SendError, SendErrorKind};
use crate::stream::StreamShared;

/// The sending side of one stream.
///
/// Small items share messages: an item leaves when its message is full (about 8 KiB), and at the latest when the
/// handler's future yields. A handler that computes for long between items calls [`flush`](Self::flush). A sender that
/// was moved to another task is flushed by the connection's driver soon after.
pub struct ResponseSender {
    stream: Arc<StreamShared>,
    sent: u64,
    /// A message was completed since the task last gave way.
    owes_turn: bool,
    is_ended: bool,
}

impl ResponseSender {
    pub(crate) fn new(stream: Arc<StreamShared>) -> Self {
        Self {
            stream,
            sent: 0,
            owes_turn: false,
            is_ended: false,
        }
    }

    /// Sends an item; waits while the caller has no room.
    ///
    /// The item is copied into the message under construction. An empty item is an item, but in the text and sentinel dialects.
    ///
    /// # Errors
    /// `Closed` once the stream has ended, `TooLarge` when the item exceeds `max_item`: it is skipped, the stream goes on.
    /// `NotRepresentable` when the caller's dialect has no form for the item: the stream has failed.
    ///
    /// # Cancel safety
    /// When the future is dropped before it completes, the item was not sent.
    pub async fn send(&mut self, item: impl AsRef<[u8]>) -> Result<(), SendError> {
        let item = item.as_ref();
        poll_fn(|cx| {
            if self.owes_turn {
                // Once a message, not once an item: a handler that always has room lets others run.
                ready!(coop::poll_proceed(cx)).made_progress();
                self.owes_turn = false;
            }
            let outcome = ready!(self.stream.poll_send(cx, item));
            self.owes_turn |= outcome?;
            self.sent += 1;
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Sends a value as JSON; waits while the caller has no room.
    ///
    /// # Errors
    /// As [`send`](Self::send), and `INTERNAL` when the value cannot be encoded: `?` in a handler works on both.
    ///
    /// # Cancel safety
    /// When the future is dropped before it completes, the item was not sent.
    pub async fn send_as(&mut self, item: &(impl Serialize + Sync + ?Sized)) -> Result<(), HandlerError> {
        let item = Json::encode(item).map_err(HandlerError::internal)?;
        Ok(self.send(item).await?)
    }

    /// Adds a header to the first message, where the caller finds it with `Responses::headers`. The first message leaves with the
    /// first data, and at the latest 200 ms after the request arrived: it is too late then for a call that was queued for
    /// longer.
    ///
    /// # Errors
    /// `HeadersSent` when it has left; `InvalidHeader` when name or value are not printable ASCII, when the name is `Natstream` or
    /// begins with `Nats-`, or when all headers together exceed 4 KiB.
    pub fn header(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Result<(), SendError> {
        self.stream.add_header(name.as_ref(), value.as_ref())
    }

    /// Sends what was gathered, without waiting for more items.
    ///
    /// It gives way once, so that the connection's task gets the processor before this one computes on.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn flush(&mut self) {
        self.stream.flush();
        tokio::task::yield_now().await;
    }

    /// Ends the stream with success.
    pub fn finish(self) {
        self.finish_with(Bytes::new());
    }

    /// Ends the stream with success and bytes for the caller, at most 4 KiB; longer ones are left out.
    pub fn finish_with(mut self, trailers: impl Into<Bytes>) {
        self.is_ended = true;
        let status = Status {
            details: trailers.into(),
            ..Status::ok()
        };
        self.stream.end(status);
    }

    /// Ends the stream with a failure, after everything that was sent.
    pub fn fail(mut self, error: impl Into<HandlerError>) {
        self.is_ended = true;
        self.stream.end(error.into().into_status());
    }

    /// Has the stream ended? Sending is of no use then.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stream.is_closed()
    }

    /// Completes when the stream has ended, with the reason: [`Local`](CloseReason::Local) when this side ended it.
    ///
    /// The future does not borrow the sender, so a handler can wait for it beside other things while it sends.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub fn closed(&self) -> impl Future<Output = CloseReason> + Send + 'static {
        let stream = self.stream.clone();
        async move { stream.closed().await }
    }

    /// Runs a future until it completes, or until the stream has ended, which drops it: for what a handler waits for beside
    /// [`send`](Self::send).
    ///
    /// ```no_run
    /// # use stream_server::{HandlerError, ResponseSender};
    /// # async fn example(out: &mut ResponseSender, mut lines: tokio::sync::mpsc::Receiver<String>) -> Result<(), HandlerError> {
    /// while let Some(line) = out.until_closed(lines.recv()).await? {
    ///     out.send(line).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It does not borrow the sender. The name elsewhere is `run_until_cancelled`.
    ///
    /// # Errors
    /// `Closed`, with the reason, once the stream has ended, as from `send`: `?` ends the handler. The future is not polled
    /// then, even if it is ready.
    ///
    /// # Cancel safety
    /// That of the future.
    pub fn until_closed<F: IntoFuture>(
        &self,
        future: F,
    ) -> impl Future<Output = Result<F::Output, SendError>> + use<F> {
        let stream = self.stream.clone();
        let future = future.into_future();
        async move {
            let mut closed = pin!(stream.closed());
            let mut future = pin!(future);
            poll_fn(|cx| {
                if let Poll::Ready(reason) = closed.as_mut().poll(cx) {
                    let (kind, reason) = (SendErrorKind::Closed, Some(reason));
                    return Poll::Ready(Err(SendError { kind, reason }));
                }
                future.as_mut().poll(cx).map(Ok)
            })
            .await
        }
    }

    /// Items sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Largest item that this stream takes, in bytes: the smaller of both sides' limits.
    #[must_use]
    pub fn max_item(&self) -> u64 {
        self.stream.max_item()
    }
}

impl Drop for ResponseSender {
    fn drop(&mut self) {
        if self.is_ended {
            return;
        }
        if std::thread::panicking() {
            self.stream.sender_panicked();
        } else {
            self.stream.sender_dropped();
        }
    }
}

impl fmt::Debug for ResponseSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseSender")
            .field("sent", &self.sent)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
