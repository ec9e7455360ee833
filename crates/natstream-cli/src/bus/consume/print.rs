//! Messages on standard output.

use std::sync::Arc;

use natstream::eventbus::{HandlerError, Message};
use serde_json::Value;
use tokio::sync::{Mutex, Notify};

use crate::exit::Failure;
use crate::format::{self, Format};
use crate::output::{self, Output};

/// Prints messages, each written before it is acked.
#[derive(Clone)]
pub(super) struct Printer {
    format: Format,
    shared: Arc<Shared>,
}

struct Shared {
    output: Mutex<Output>,
    /// Why nothing can be written any more; the inner `None`: nobody reads.
    failure: parking_lot::Mutex<Option<Option<Failure>>>,
    failed: Notify,
}

impl Printer {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            shared: Arc::new(Shared {
                output: Mutex::new(Output::new()),
                failure: parking_lot::Mutex::new(None),
                failed: Notify::new(),
            }),
        }
    }

    pub(super) async fn print(&self, message: &Message) -> Result<(), HandlerError> {
        let mut output = self.shared.output.lock().await;
        self.append(message, output.buffer());
        if let Err(error) = output.flush().await {
            let reason = error.to_string();
            self.shared.failure.lock().get_or_insert_with(|| output::failure(error));
            self.shared.failed.notify_one();
            return Err(HandlerError::retry(reason));
        }
        Ok(())
    }

    /// Completes when nothing can be written any more, and says why; `None`: nobody reads.
    pub(super) async fn failed(&self) -> Option<Failure> {
        loop {
            let failed = self.shared.failed.notified();
            if let Some(failure) = self.shared.failure.lock().take() {
                return failure;
            }
            failed.await;
        }
    }

    fn append(&self, message: &Message, out: &mut Vec<u8>) {
        let fields = || {
            let mut fields = format!(
                "\"subject\":{},\"seq\":{},\"attempt\":{},\"stored\":\"{}\"",
                Value::from(message.subject()),
                message.sequence(),
                message.attempt(),
                message.stored_at(),
            );
            if let Some(headers) = format::headers(message.headers()) {
                fields.push(',');
                fields.push_str(&headers);
            }
            fields
        };
        self.format.append(fields, message.payload(), out);
    }
}
