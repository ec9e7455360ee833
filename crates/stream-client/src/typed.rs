//! Answers that are values instead of bytes.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use natstream_connect::{Codec, Json};
use serde::de::DeserializeOwned;

use crate::error::RequestError;
use crate::reply::ReplyBuilder;
use crate::request::RequestBuilder;
use crate::responses::Responses;

/// A request whose answer is decoded: made by [`RequestBuilder::typed`] and [`ReplyBuilder::typed`], after all other settings.
/// Awaiting it gives [`TypedResponses`], or the one value.
#[must_use = "a request does nothing until awaited"]
pub struct Typed<B, T, C = Json> {
    builder: B,
    // It holds no value of these, so it is `Send` whatever they are.
    types: PhantomData<fn() -> (T, C)>,
}

impl<B, T, C> Typed<B, T, C> {
    pub(crate) fn new(builder: B) -> Self {
        Self {
            builder,
            types: PhantomData,
        }
    }
}

impl<T: DeserializeOwned, C: Codec> Typed<RequestBuilder, T, C> {
    /// Sends the request; the same as awaiting it, without a box around the future.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Nothing was sent when the future is dropped.
    pub async fn send(self) -> Result<TypedResponses<T, C>, RequestError> {
        Ok(TypedResponses {
            responses: self.builder.send().await?,
            types: PhantomData,
        })
    }
}

impl<T: DeserializeOwned, C: Codec> Typed<ReplyBuilder, T, C> {
    /// Sends the request and waits for the value; the same as awaiting it, without a box around the future.
    ///
    /// # Errors
    /// As [`ReplyBuilder::send`]; `Decode` when the reply is not a `T`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// The reply is lost when the future is dropped; the request may have been sent.
    pub async fn send(self) -> Result<T, RequestError> {
        self.builder.send().await?.decode::<T, C>()
    }
}

impl<T: DeserializeOwned + 'static, C: Codec> IntoFuture for Typed<RequestBuilder, T, C> {
    type Output = Result<TypedResponses<T, C>, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl<T: DeserializeOwned + 'static, C: Codec> IntoFuture for Typed<ReplyBuilder, T, C> {
    type Output = Result<T, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl<B: fmt::Debug, T, C> fmt::Debug for Typed<B, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Typed").field(&self.builder).finish()
    }
}

/// The answer to a call, as values: [`Responses`] whose items are decoded one by one.
///
/// An item that is not a `T` is an error of the kind [`Decode`](crate::RequestErrorKind::Decode), which names the subject and
/// the number of the item. **It does not end the stream**: whoever reads on gets the next item; whoever does not, by `?` for
/// example, drops the stream and so cancels the call. Every other error is the verdict, and the last thing.
///
/// What [`Responses`] knows beside its items (`attempt()`, `guarantee()`, `termination()` and so on) is asked for directly.
#[must_use = "dropping `TypedResponses` cancels the call"]
pub struct TypedResponses<T, C = Json> {
    responses: Responses,
    types: PhantomData<fn() -> (T, C)>,
}

impl<T: DeserializeOwned, C: Codec> TypedResponses<T, C> {
    /// The next item.
    ///
    /// # Errors
    /// `Decode` for an item that is not a `T`; the others follow. The verdict, once, when it is not success.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Result<T, RequestError>> {
        let item = self.responses.next().await?;
        Some(self.decode(item))
    }

    /// The next item, or `None` at the end of a complete answer.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn try_next(&mut self) -> Result<Option<T>, RequestError> {
        self.next().await.transpose()
    }

    /// All items, if they have at most `limit` bytes together before they are decoded: see [`Responses::collect_all`].
    ///
    /// # Errors
    /// As [`next`](Self::next); `Cancelled` when the limit is exceeded. The items are lost then.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call; items already received are lost.
    pub async fn collect_all(self, limit: usize) -> Result<Vec<T>, RequestError> {
        let subject = self.responses.subject().to_owned();
        let items = self.responses.collect_all(limit).await?;
        let decode = |(index, item): (u64, Bytes)| {
            C::decode(&item).map_err(|error| RequestError::decode(&subject, index, error))
        };
        (0..).zip(items).map(decode).collect()
    }

    /// Reads to the end, and appends all values to `items`, where they stay whatever the verdict is: see
    /// [`Responses::collect_into`].
    ///
    /// # Errors
    /// As [`next`](Self::next): `Decode` ends nothing, so another call goes on behind the item that is not a `T`. `Cancelled` when
    /// the limit is exceeded: the call is cancelled, and the item that was too much is lost.
    ///
    /// # Cancel safety
    /// As [`Responses::collect_into`].
    pub async fn collect_into(&mut self, items: &mut Vec<T>, limit: usize) -> Result<(), RequestError> {
        let subject = self.responses.subject().to_owned();
        let decode =
            |index, item: Bytes| C::decode(&item).map_err(|error| RequestError::decode(&subject, index, error));
        self.responses.read_into(items, limit, decode).await
    }

    /// The same answer as bytes, from the next item on.
    pub fn into_responses(self) -> Responses {
        self.responses
    }

    fn decode(&self, item: Result<Bytes, RequestError>) -> Result<T, RequestError> {
        let item = item?;
        C::decode(&item).map_err(|error| {
            // The one just received is the last of them.
            let index = self.responses.received().saturating_sub(1);
            RequestError::decode(self.responses.subject(), index, error)
        })
    }
}

/// Shared access only: reading bytes and values by turns would be a mistake.
impl<T, C> Deref for TypedResponses<T, C> {
    type Target = Responses;

    fn deref(&self) -> &Responses {
        &self.responses
    }
}

impl<T: DeserializeOwned, C: Codec> Stream for TypedResponses<T, C> {
    type Item = Result<T, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.responses).poll_next(cx);
        next.map(|item| item.map(|item| self.decode(item)))
    }
}

impl<T, C> fmt::Debug for TypedResponses<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedResponses").field(&self.responses).finish()
    }
}
