//! Answers of which every item says which it is, and what becomes of a call.

use natstream::{HandlerError, Request, RequestBuilder, RequestError, ResponseSender, Responses};
use testkit::within;

use crate::LIMIT;

/// A handler that sends as many items as the request says.
///
/// # Errors
/// When the request is no number, or the stream has ended.
pub async fn count(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let items = String::from_utf8_lossy(request.payload()).parse();
    for number in 0..items.map_err(HandlerError::internal)? {
        out.send(item(number)).await?;
    }
    Ok(())
}

/// An item of 100 bytes that says which it is.
#[must_use]
pub fn item(number: u32) -> String {
    format!("{number:0100}")
}

/// The answer to a call that could be sent.
///
/// # Panics
/// When it could not.
pub async fn sent(request: RequestBuilder) -> Responses {
    within(LIMIT, request).await.expect("sent")
}

/// How a call ends: an error, or success, after items that must be those of [`count`].
///
/// # Panics
/// When an item is another one.
pub async fn outcome(request: RequestBuilder) -> Result<u64, RequestError> {
    rest(&mut sent(request).await).await
}

/// The same for a call that is under way.
///
/// # Panics
/// When an item is another one.
pub async fn rest(responses: &mut Responses) -> Result<u64, RequestError> {
    let mut number = responses.received();
    while let Some(received) = within(LIMIT, responses.try_next()).await? {
        assert_eq!(received, item(number as u32));
        number += 1;
    }
    Ok(number)
}

/// A call that succeeds with so many items.
///
/// # Panics
/// When it does not.
pub async fn complete(request: RequestBuilder, items: u64) {
    let received = outcome(request).await.expect("complete");
    assert_eq!(received, items);
}

/// A call that fails, and how.
///
/// # Panics
/// When it succeeds.
pub async fn failure(request: RequestBuilder) -> RequestError {
    outcome(request).await.expect_err("a failure")
}
