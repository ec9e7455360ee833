//! Handlers in other styles, on top of [`Server::on`].

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use serde::de::DeserializeOwned;

use crate::endpoint::EndpointBuilder;
use crate::error::HandlerError;
use crate::request::Request;
use crate::sender::ResponseSender;
use crate::server::Server;

impl Server {
    /// Serves `subject` with a closure that gets the payload as a `T`, which it has in JSON. A request with another payload
    /// fails with `INVALID_ARGUMENT`.
    ///
    /// ```no_run
    /// # async fn example(server: stream_server::Server) -> Result<(), stream_server::ServeError> {
    /// server
    ///     .on_typed("numbers.squares", |numbers: Vec<u32>, _request, mut out| async move {
    ///         for number in numbers {
    ///             out.send_as(&(number * number)).await?;
    ///         }
    ///         Ok(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_typed<T, F, Fut>(&self, subject: impl Into<String>, handler: F) -> EndpointBuilder
    where
        T: DeserializeOwned + 'static,
        F: Fn(T, Request, ResponseSender) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        self.on(subject, move |request, out| {
            let value = request.json();
            let handled = value.map(|value| handler(value, request, out));
            async move { handled?.await }
        })
    }

    /// Serves `subject` with a closure that returns all items at once.
    ///
    /// ```no_run
    /// # async fn example(server: stream_server::Server) -> Result<(), stream_server::ServeError> {
    /// server.on_items("letters", |_request| async { Ok(["a", "b", "c"]) }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_items<F, Fut, I>(&self, subject: impl Into<String>, handler: F) -> EndpointBuilder
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, HandlerError>> + Send + 'static,
        I: IntoIterator<IntoIter: Send, Item: AsRef<[u8]> + Send> + Send,
    {
        self.on(subject, move |request, mut out| {
            let items = handler(request);
            async move {
                for item in items.await? {
                    out.send(item).await?;
                }
                Ok(())
            }
        })
    }

    /// Serves `subject` with a closure that returns a stream of items. The first error ends the answer.
    ///
    /// The stream is dropped when the caller leaves.
    pub fn on_stream<F, Fut, S, T>(&self, subject: impl Into<String>, handler: F) -> EndpointBuilder
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S, HandlerError>> + Send + 'static,
        S: Stream<Item = Result<T, HandlerError>> + Send,
        T: AsRef<[u8]> + Send,
    {
        self.on(subject, move |request, mut out| {
            let stream = handler(request);
            async move {
                let mut closed = pin!(out.closed());
                let mut stream = pin!(stream.await?);
                loop {
                    let item = tokio::select! {
                        biased;
                        _ = &mut closed => return Ok(()),
                        item = stream.next() => item,
                    };
                    match item {
                        Some(item) => out.send(item?).await?,
                        None => return Ok(()),
                    }
                }
            }
        })
    }

    /// Serves `subject` with a closure that is asked for one item after the other, by its index from 0.
    ///
    /// It returns an item, or none this time, and whether to go on: `(Some(item), false)` sends the item and ends,
    /// `(None, true)` sends nothing and asks again.
    pub fn on_indexed<F, Fut, T>(&self, subject: impl Into<String>, handler: F) -> EndpointBuilder
    where
        F: Fn(Arc<Request>, u64) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(Option<T>, bool), HandlerError>> + Send + 'static,
        T: AsRef<[u8]> + Send + 'static,
    {
        self.on_batches(subject, handler)
    }

    /// Serves `subject` with a closure that is asked for one batch of items after the other, by its index from 0.
    ///
    /// It returns a batch, which may be empty, and whether to go on: `(batch, false)` sends the batch and ends.
    pub fn on_batches<F, Fut, B>(&self, subject: impl Into<String>, handler: F) -> EndpointBuilder
    where
        F: Fn(Arc<Request>, u64) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(B, bool), HandlerError>> + Send + 'static,
        B: IntoIterator<IntoIter: Send, Item: AsRef<[u8]> + Send> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.on(subject, move |request, mut out| {
            let handler = handler.clone();
            async move {
                let request = Arc::new(request);
                for index in 0.. {
                    if out.is_closed() {
                        break;
                    }
                    let (batch, more) = handler(request.clone(), index).await?;
                    for item in batch {
                        out.send(item).await?;
                    }
                    if !more {
                        break;
                    }
                    // A closure that has nothing to send and never waits must not hold its thread.
                    tokio::task::coop::consume_budget().await;
                }
                Ok(())
            }
        })
    }
}
