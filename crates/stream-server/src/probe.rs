//! The answer to a test, for which no handler runs.

use std::sync::{Arc, LazyLock};

use crate::admission::ErasedHandler;

/// Items of a test answer, each in a message of its own: an export that allows for one response only delivers the first.
const ITEMS: [&str; 3] = ["0", "1", "2"];

/// Answers in place of an endpoint's handler.
pub(crate) static HANDLER: LazyLock<ErasedHandler> = LazyLock::new(|| {
    Arc::new(|_request, mut out| {
        Box::pin(async move {
            for item in ITEMS {
                out.send(item).await?;
                out.flush().await;
            }
            Ok(())
        })
    })
});
