//! The round trip that async-nats lacks, and the orderly end built on it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

use crate::connection::Inner;
use crate::end::EndReason;
use crate::error::{FenceError, FenceErrorKind};
use crate::state::{ConnectionState, ConnectionStatus};
use crate::supervisor::now;

/// See [`Connection::fence`](crate::Connection::fence).
pub(crate) async fn fence(inner: &Inner, limit: Duration) -> Result<Duration, FenceError> {
    fence_on(inner, None, limit).await.map(|(_, round_trip)| round_trip)
}

/// See [`Connection::fence_since`](crate::Connection::fence_since).
pub(crate) async fn fence_since(inner: &Inner, epoch: u64, limit: Duration) -> Result<Duration, FenceError> {
    if inner.is_confirmed(epoch) {
        return Ok(Duration::ZERO);
    }
    match fence_on(inner, Some(epoch), limit).await {
        // An orderly end meanwhile has confirmed it.
        Err(error) if error.kind() == FenceErrorKind::Closed && inner.is_confirmed(epoch) => Ok(Duration::ZERO),
        outcome => outcome.map(|(_, round_trip)| round_trip),
    }
}

/// A fence, and the epoch that it vouches for; it must be this one if it is given.
async fn fence_on(inner: &Inner, epoch: Option<u64>, limit: Duration) -> Result<(u64, Duration), FenceError> {
    // Not the published state, which may lag.
    let before = inner.look();
    require(before.status)?;
    if epoch.is_some_and(|epoch| epoch != before.epoch) {
        return Err(FenceError::new(FenceErrorKind::Disconnected));
    }
    let mut states = inner.watch();
    let round_trip = timeout(limit, async {
        tokio::select! {
            // Both may be ready; the answer counts only if the connection is the same.
            biased;
            result = round_trip(inner) => result,
            result = broken(&mut states, before.epoch) => result,
        }
    })
    .await
    .unwrap_or_else(|_| Err(FenceError::new(FenceErrorKind::Timeout)))?;
    let after = inner.look();
    require(after.status)?;
    if after.epoch != before.epoch {
        // What went over the old connection may be lost, although this answer came over the new
        // one.
        return Err(FenceError::new(FenceErrorKind::Disconnected));
    }
    Ok((before.epoch, round_trip))
}

/// See [`Connection::close`](crate::Connection::close).
pub(crate) async fn close(inner: &Inner, limit: Duration) -> Result<(), FenceError> {
    if inner.look().is_closed() {
        return Ok(());
    }
    let deadline = now().checked_add(limit);
    let confirmed = fence_on(inner, None, limit).await;
    if let Ok((epoch, _)) = confirmed {
        inner.confirmed(epoch);
    }
    // From here on async-nats does not reconnect any more.
    inner.signals().close(EndReason::Closed);
    let end = async {
        let mut states = inner.watch();
        // Its name promises more: it unsubscribes everything and ends the connection task at the
        // next opportunity, without waiting for an answer. The fence has waited. It fails if the
        // task has ended already.
        let _ = inner.client().drain().await;
        let _ = states.wait_for(ConnectionState::is_closed).await;
    };
    match deadline {
        // Too late is too late only for the waiting: the first poll hands the drain over, if there
        // is room.
        Some(deadline) => drop(timeout_at(deadline, end).await),
        None => end.await,
    }
    inner.end();
    match confirmed {
        // Somebody else closed it meanwhile.
        Err(error) if error.kind() == FenceErrorKind::Closed => Ok(()),
        confirmed => confirmed.map(drop),
    }
}

/// Sends a message to ourselves and waits for it, or for the server's refusal.
async fn round_trip(inner: &Inner) -> Result<Duration, FenceError> {
    // A failing command means that async-nats' connection task has ended.
    let closed = || FenceError::new(FenceErrorKind::Closed);
    let client = inner.client();
    let subject = client.new_inbox();
    let refused = inner.signals().expect_refusal(subject.as_str());
    let sent = now();
    let mut echo = client.subscribe(subject.clone()).await.map_err(|_| closed())?;
    client
        .publish(subject.clone(), Bytes::new())
        .await
        .map_err(|_| closed())?;
    tokio::select! {
        message = echo.next() => message.map(drop).ok_or_else(closed)?,
        // The server works off commands in turn: having refused this one, it has seen those before.
        () = refused.notified() => {}
    }
    let round_trip = now() - sent;
    // Waits for room among the commands; a drop might have to start a task for it.
    let _ = echo.unsubscribe().await;
    Ok(round_trip)
}

/// Returns when the connection is not the one of `epoch` any more.
async fn broken<T>(states: &mut watch::Receiver<ConnectionState>, epoch: u64) -> Result<T, FenceError> {
    let state = states
        .wait_for(|state| !state.is_connected() || state.epoch != epoch)
        .await;
    // The watch cannot end: the caller holds the connection.
    let status = state.map_or(ConnectionStatus::Closed, |state| state.status);
    require(status)?;
    Err(FenceError::new(FenceErrorKind::Disconnected))
}

fn require(status: ConnectionStatus) -> Result<(), FenceError> {
    match status {
        ConnectionStatus::Connected => Ok(()),
        ConnectionStatus::Closed => Err(FenceError::new(FenceErrorKind::Closed)),
        ConnectionStatus::Disconnected => Err(FenceError::new(FenceErrorKind::Disconnected)),
    }
}
