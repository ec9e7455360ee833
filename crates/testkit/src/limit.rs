//! A limit on how long a test waits.

use std::{panic::Location, time::Duration};

/// Awaits `future`, and panics with the caller's line when that takes longer than `limit`.
///
/// For every await that depends on a server or a peer: a hang then fails where it hangs.
/// The limit is no measurement; be generous, machines that run many tests are slow.
///
/// # Panics
///
/// When the limit passes. `future` is dropped then.
#[track_caller]
pub fn within<F: IntoFuture>(limit: Duration, future: F) -> impl Future<Output = F::Output> {
    // Taken here, not in the block below: inside it the caller would be the executor.
    let caller = Location::caller();
    async move {
        match tokio::time::timeout(limit, future).await {
            Ok(output) => output,
            Err(_) => panic!("took longer than {limit:?}, awaited at {caller}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        panic::catch_unwind,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn the_output_passes_through() {
        assert_eq!(block_on(within(Duration::from_secs(60), async { 7 })), 7);
    }

    #[test]
    fn the_panic_names_the_limit_and_the_line() {
        static LINE: AtomicU32 = AtomicU32::new(0);
        let wait = || async {
            let (line, waiting) = (line!(), within(Duration::from_millis(1), pending::<()>()));
            LINE.store(line, Ordering::Relaxed);
            waiting.await;
        };
        let panicked = catch_unwind(|| block_on(wait()));
        let line = LINE.load(Ordering::Relaxed);
        let payload = panicked.unwrap_err();
        let message = payload.downcast_ref::<String>().unwrap();
        assert!(message.contains("1ms"), "{message}");
        assert!(message.contains(&format!("{}:{line}:", file!())), "{message}");
    }
}
