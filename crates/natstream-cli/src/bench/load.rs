//! The load: items that say which they are, so that nothing can go missing unseen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use natstream::{HandlerError, Pool, Request, RequestError, ResponseSender};

use super::figures::Live;
use super::gate::Gate;
use crate::clock::now;
use crate::size;

/// Each item begins with its number.
const SMALLEST: u64 = 8;

/// Reads the size of an item.
pub(super) fn item_size(text: &str) -> Result<u64, String> {
    match size::parse(text)? {
        size if size < SMALLEST => Err(format!("an item has at least {SMALLEST} bytes: its number")),
        size => Ok(size),
    }
}

/// What a call asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) items: u64,
    /// Bytes of each, at least [`SMALLEST`].
    pub(super) size: u64,
}

impl Order {
    fn to_text(self) -> String {
        format!("{} {}", self.items, self.size)
    }

    fn parse(text: &str) -> Option<Self> {
        let (items, size) = text.split_once(' ')?;
        Some(Self {
            items: items.parse().ok()?,
            size: size.parse().ok()?,
        })
    }
}

/// Answers an order.
pub(super) async fn serve(request: Request, mut out: ResponseSender) -> Result<(), HandlerError> {
    let order = std::str::from_utf8(request.payload()).ok().and_then(Order::parse);
    let order = order.filter(|order| (SMALLEST..=out.max_item()).contains(&order.size));
    let Some(Order { items, size }) = order else {
        return Err(HandlerError::invalid("not an order of natstream bench"));
    };
    let mut item = vec![b'.'; size::to_usize(size)];
    for number in 0..items {
        item[..8].copy_from_slice(&number.to_be_bytes());
        out.send(&item).await?;
    }
    Ok(())
}

/// A call that has ended.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) first_item: Option<Duration>,
    pub(super) whole: Duration,
    pub(super) items: u64,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Complete,
    /// Ended by the time of the whole run.
    Stopped,
    Failed(Box<RequestError>),
    /// An item was not the one that it had to be, or the end came early: this must not happen.
    Wrong,
}

/// What a caller needs for its calls.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) pool: Pool,
    pub(super) subject: String,
    pub(super) order: Order,
    /// Bytes; that of the library unless it is set.
    pub(super) window: Option<u64>,
    /// Where the streams wait for each other behind their first item.
    pub(super) gate: Option<Arc<Gate>>,
    pub(super) live: Arc<Live>,
}

impl Caller {
    /// Makes a call, and looks at each item. `stop` ends it.
    pub(super) async fn call(&self, stop: impl Future<Output = ()>) -> Called {
        let begin = now();
        let mut called = Called {
            first_item: None,
            whole: Duration::ZERO,
            items: 0,
            outcome: Outcome::Stopped,
        };
        let outcome = async {
            match self.read(begin, &mut called).await {
                Ok(true) => Outcome::Complete,
                Ok(false) => Outcome::Wrong,
                Err(error) => Outcome::Failed(Box::new(error)),
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = outcome => outcome,
            () = stop => Outcome::Stopped,
        };
        called.outcome = outcome;
        called.whole = now() - begin;
        called
    }

    /// Reads an answer; false when it is not the one that was ordered.
    async fn read(&self, begin: Instant, called: &mut Called) -> Result<bool, RequestError> {
        let Order { items, size } = self.order;
        let mut expected = self.gate.as_deref().map(Gate::expect);
        let mut request = self.pool.request_stream(self.subject.as_str(), self.order.to_text());
        if let Some(window) = self.window {
            request = request.window(size::to_usize(window));
        }
        let mut responses = request.send().await?;
        while let Some(item) = responses.try_next().await? {
            called.first_item.get_or_insert_with(|| now() - begin);
            let is_right = item.len() as u64 == size && item[..8] == called.items.to_be_bytes();
            if !is_right {
                return Ok(false);
            }
            called.items += 1;
            self.live.item(size);
            if called.items == 1
                && let Some(expected) = &mut expected
            {
                expected.pass().await;
            }
        }
        Ok(called.items == items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let order = Order { items: 7, size: 128 };
        let Some(Order { items: 7, size: 128 }) = Order::parse(&order.to_text()) else {
            panic!("{}", order.to_text());
        };
        for text in ["", "1", "1 x", "-1 8", "1 2 3"] {
            assert!(Order::parse(text).is_none(), "{text}");
        }
    }
}
