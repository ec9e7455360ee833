//! What a connection is doing: a level that can be read and waited for, not a log of events.

/// What a connection is doing now.
///
/// It comes from [`Connection::state`](crate::Connection::state), a [`watch`](tokio::sync::watch):
/// a reader that was busy sees the latest state, not each one between. What it cannot miss is
/// *that* something happened: every reconnect raises `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ConnectionState {
    /// Whether there is a connection.
    pub status: ConnectionStatus,
    /// How often this connection has been established: 1 after the first connect, one more with
    /// every reconnect, never less. (0: a foreign client that is still on its way.)
    ///
    /// Whatever was under way when it rises may be lost: async-nats drops bytes that were written
    /// but not yet received, and messages that the server sent in between.
    pub epoch: u64,
    /// Whether the server has said that it is about to stop (lame duck mode).
    ///
    /// It is over with the next reconnect. Always false for a foreign client without
    /// [`observe`](crate::observe).
    pub lame_duck: bool,
}

impl ConnectionState {
    pub(crate) fn new(status: ConnectionStatus, epoch: u64, lame_duck: bool) -> Self {
        Self {
            status,
            epoch,
            lame_duck,
        }
    }

    /// Whether the connection is established.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.status == ConnectionStatus::Connected
    }

    /// Whether the connection has ended for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.status == ConnectionStatus::Closed
    }
}

/// Whether there is a connection; a part of [`ConnectionState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionStatus {
    /// Ended for good: closed, out of reconnect attempts, or with credentials that are refused;
    /// [`Connection::end_reason`](crate::Connection::end_reason) says why.
    Closed,
    /// Established.
    Connected,
    /// Not established (any more); async-nats is trying to.
    Disconnected,
}
