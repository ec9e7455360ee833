//! The load: items that say which they are, so that nothing can go missing unseen.

use std::time::{Duration, Instant};

use natstream::{HandlerError, Pool, Request, RequestError, ResponseSender};

use crate::clock::now;
use crate::size;

/// Each item begins with its number.
pub(super) const SMALLEST: u64 = 8;

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

/// Makes a call, and looks at each item. `stop` ends it.
pub(super) async fn call(
    pool: &Pool,
    subject: &str,
    order: Order,
    count: impl Fn(u64),
    stop: impl Future<Output = ()>,
) -> Called {
    let begin = now();
    let mut called = Called {
        first_item: None,
        whole: Duration::ZERO,
        items: 0,
        outcome: Outcome::Stopped,
    };
    let outcome = async {
        match read(pool, subject, order, count, begin, &mut called).await {
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
async fn read(
    pool: &Pool,
    subject: &str,
    order: Order,
    count: impl Fn(u64),
    begin: Instant,
    called: &mut Called,
) -> Result<bool, RequestError> {
    let mut responses = pool.request_stream(subject, order.to_text()).await?;
    while let Some(item) = responses.try_next().await? {
        called.first_item.get_or_insert_with(|| now() - begin);
        let is_right = item.len() as u64 == order.size && item[..8] == called.items.to_be_bytes();
        if !is_right {
            return Ok(false);
        }
        called.items += 1;
        count(order.size);
    }
    Ok(called.items == order.items)
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
