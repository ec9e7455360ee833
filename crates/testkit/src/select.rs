//! Waiting for the first or for all of some futures, without the macros of tokio.

use std::{
    future::{pending, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

/// A future of a list, borrowed from where it is pinned.
pub(crate) type Pinned<'a, T> = Pin<&'a mut (dyn Future<Output = T> + Send)>;

/// Waits until one of `futures` ends. It asks them in order, and gives the output of the first.
pub(crate) async fn first<T, const N: usize>(mut futures: [Pinned<'_, T>; N]) -> T {
    poll_fn(|cx| {
        for future in &mut futures {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits until both have ended, or until one has ended with an error.
pub(crate) async fn both<E>(
    a: impl Future<Output = Result<(), E>>,
    b: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_ended, mut b_ended) = (false, false);
    poll_fn(|cx| {
        if !a_ended && let Poll::Ready(ended) = a.as_mut().poll(cx) {
            ended?;
            a_ended = true;
        }
        if !b_ended && let Poll::Ready(ended) = b.as_mut().poll(cx) {
            ended?;
            b_ended = true;
        }
        if a_ended && b_ended {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

/// `future`, or never when there is none.
pub(crate) async fn maybe<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
