//! Generated answers: numbers.

use std::io::Write as _;
use std::time::Duration;

use natstream::{Code, Handler, HandlerError, Request, ResponseSender};
use tokio::time::MissedTickBehavior;

use crate::size;

/// Answers with the numbers from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generate {
    count: u64,
    size: u64,
    interval: Option<Duration>,
}

impl Generate {
    /// `count` items, each padded to `size` bytes, with `interval` between two of them.
    pub(crate) fn new(count: u64, size: u64, interval: Option<Duration>) -> Self {
        Self { count, size, interval }
    }

    async fn send_all(self, out: &mut ResponseSender) -> Result<(), HandlerError> {
        let max = out.max_item();
        if self.size > max {
            // Before the memory for it is taken.
            let message = format!("items of {} bytes exceed the limit of {max}", self.size);
            return Err(HandlerError::new(Code::ResourceExhausted, message));
        }
        let mut interval = self.interval.map(tokio::time::interval);
        if let Some(interval) = &mut interval {
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut item = Vec::new();
        for number in 0..self.count {
            if let Some(interval) = &mut interval {
                interval.tick().await;
            }
            fill(&mut item, number, self.size);
            out.send(&item).await?;
        }
        Ok(())
    }
}

impl Handler for Generate {
    async fn handle(&self, _request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
        let closed = out.closed();
        tokio::select! {
            biased;
            outcome = self.send_all(&mut out) => outcome,
            _ = closed => Err(HandlerError::new(Code::Cancelled, "the call is over")),
        }
    }
}

/// The decimal digits of `number`, then dots up to `size` bytes.
fn fill(item: &mut Vec<u8>, number: u64, size: u64) {
    item.clear();
    // Writing to memory does not fail.
    let _ = write!(item, "{number}");
    let size = size::to_usize(size).max(item.len());
    item.resize(size, b'.');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_padded() {
        let mut item = b"old".to_vec();
        for (number, size, text) in [(0, 0, "0"), (7, 4, "7..."), (12_345, 3, "12345"), (10, 2, "10")] {
            fill(&mut item, number, size);
            assert_eq!(item, text.as_bytes());
        }
    }
}
