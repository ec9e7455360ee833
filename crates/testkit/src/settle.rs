//! Waiting for levels, which nobody tells of.

use std::{
    fmt::Debug,
    panic::Location,
    pin::pin,
    time::{Duration, Instant},
};

/// How often a level is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `probe` gives `expected`, and panics with the caller's line when it does not within `limit`.
///
/// For levels without an event: connections of a server, memory, alive tasks. Where there is an
/// event, wait for that. It looks every 5 ms.
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn doc(server: testkit::NatsServer) {
/// let before = server.levels().await;
/// // … clients come, work and go …
/// testkit::settles(Duration::from_secs(10), || server.levels(), before).await;
/// # }
/// ```
///
/// # Panics
///
/// When the limit passes, with the last value. A probe that hangs is dropped then.
///
/// # Cancel safety
///
/// Dropping the future drops a probe that is under way.
#[track_caller]
pub fn settles<F, P>(limit: Duration, probe: F, expected: P::Output) -> impl Future<Output = ()>
where
    F: FnMut() -> P,
    P: Future<Output: Debug + PartialEq>,
{
    let caller = Location::caller();
    async move {
        if let Err(last) = poll(limit, probe, |value| *value == expected).await {
            panic!("not {expected:?} within {limit:?}, but {last}, awaited at {caller}");
        }
    }
}

/// Waits until `probe` gives a value that meets `condition`, and returns it: [`settles`] where more than one
/// value will do.
///
/// # Panics
///
/// When the limit passes, with the last value. A probe that hangs is dropped then.
///
/// # Cancel safety
///
/// Dropping the future drops a probe that is under way.
#[track_caller]
pub fn settles_where<F, P>(
    limit: Duration,
    probe: F,
    condition: impl FnMut(&P::Output) -> bool,
) -> impl Future<Output = P::Output>
where
    F: FnMut() -> P,
    P: Future<Output: Debug>,
{
    let caller = Location::caller();
    async move {
        match poll(limit, probe, condition).await {
            Ok(value) => value,
            Err(last) => panic!("not as it should be within {limit:?}, but {last}, awaited at {caller}"),
        }
    }
}

/// The value that meets `condition`, or the last one as a text.
async fn poll<F, P>(
    limit: Duration,
    mut probe: F,
    mut condition: impl FnMut(&P::Output) -> bool,
) -> Result<P::Output, String>
where
    F: FnMut() -> P,
    P: Future<Output: Debug>,
{
    let deadline = Instant::now() + limit;
    let mut last = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Asked at least once, also when the limit is over.
        let Ok(value) = tokio::time::timeout(left, pin!(probe())).await else {
            return Err(match last {
                Some(last) => format!("{last:?} before a look that did not end"),
                None => "the first look did not end".to_owned(),
            });
        };
        if condition(&value) {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(format!("{value:?}"));
        }
        last = Some(value);
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        panic::AssertUnwindSafe,
    };

    use futures_util::FutureExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    async fn panic_of(future: impl Future) -> String {
        let panicked = AssertUnwindSafe(future).catch_unwind().await;
        let payload = panicked.err().expect("it should have panicked");
        *payload.downcast::<String>().expect("a panic with a text")
    }

    #[tokio::test]
    async fn it_waits_for_the_value() {
        let mut count = 0;
        let mut next = || {
            count += 1;
            ready(count)
        };
        settles(LONG, &mut next, 3).await;
        assert_eq!(settles_where(LONG, next, |count| *count > 4).await, 5);
    }

    #[tokio::test]
    async fn the_panic_shows_the_last_value_and_the_line() {
        let (line, waiting) = (line!(), settles(SHORT, || ready(7), 8));
        let message = panic_of(waiting).await;
        assert!(message.contains("but 7"), "{message}");
        assert!(message.contains(&format!("{}:{line}:", file!())), "{message}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_no_hang() {
        let message = panic_of(settles(SHORT, pending, 8)).await;
        assert!(message.contains("did not end"), "{message}");
    }
}
