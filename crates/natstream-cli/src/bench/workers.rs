//! Connections that work side by side, and how far they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use natstream::Connection;
use tokio::task::JoinSet;
use tokio::time::interval_at;

use super::ends::NAME;
use crate::clock::now;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::session;

/// Nothing has come on for so long: it does not any more.
const STALLED: Duration = Duration::from_secs(30);

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What has been done, by all together.
pub(super) type Done = Arc<AtomicU64>;

/// So many connections.
pub(super) async fn connect(context: &mut Context, count: u16) -> Result<Vec<Connection>, Failure> {
    let mut connections = Vec::with_capacity(count.into());
    for _ in 0..count {
        connections.push(session::connect(&context.connection, NAME, &mut context.interrupts).await?);
    }
    Ok(connections)
}

/// Ends them, at once.
pub(super) async fn close(context: &mut Context, connections: &[Connection]) {
    let closing = futures_util::future::join_all(connections.iter().map(session::close));
    tokio::select! {
        _ = closing => {}
        signal = context.interrupts.next() => tracing::debug!(signal, "the connections were not closed"),
    }
}

/// The share of each of so many, which together are `count`.
pub(super) fn shares(count: u64, workers: usize) -> impl Iterator<Item = u64> {
    let workers = (workers as u64).max(1);
    (0..workers).map(move |worker| count / workers + u64::from(worker < count % workers))
}

/// Waits for all, and tells how far they are. The first failure ends them, and so does a standstill.
pub(super) async fn all<T: 'static>(
    mut tasks: JoinSet<Result<T, Failure>>,
    console: Console,
    done: &AtomicU64,
    of: u64,
    what: &str,
) -> Result<Vec<T>, Failure> {
    let began = now();
    let mut looks = interval_at((began + LOOK).into(), LOOK);
    let (mut before, mut since) = (0, began);
    let mut outcomes = Vec::with_capacity(tasks.len());
    loop {
        tokio::select! {
            biased;
            outcome = tasks.join_next() => match outcome {
                Some(Ok(outcome)) => outcomes.push(outcome?),
                Some(Err(error)) => return Err(Failure::new(Exit::Failed, anyhow::Error::new(error))),
                None => return Ok(outcomes),
            },
            _ = looks.tick() => {
                let count = done.load(Ordering::Relaxed);
                let of = if of == u64::MAX { String::new() } else { format!(" of {of}") };
                console.progress(&format!("{count}{of} {what}"));
                if count > before {
                    (before, since) = (count, now());
                } else if now() - since >= STALLED {
                    let text = format!("{count}{of} {what}, and none for {}", humantime::format_duration(STALLED));
                    return Err(Failure::text(Exit::Incomplete, text));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_whole() {
        assert_eq!(shares(10, 4).collect::<Vec<_>>(), [3, 3, 2, 2]);
        assert_eq!(shares(2, 3).collect::<Vec<_>>(), [1, 1, 0]);
        assert_eq!(shares(7, 1).collect::<Vec<_>>(), [7]);
    }
}
