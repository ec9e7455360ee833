//! A connection for one command, and what is noticed about it meanwhile.

use std::time::Duration;

use natstream::connect::{Operation, ServerErrorEvent};
use natstream::{ConnectError, ConnectErrorKind, Connection, ConnectionStatus, Connections, EndReason};
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupts;
use crate::options::ConnectionSettings;

/// How long the end of a command waits until nats-server has everything.
const CLOSE: Duration = Duration::from_secs(2);

/// The library says more about a server that does not answer than "no connection": it speaks first.
const SLACK: Duration = Duration::from_millis(100);

/// Connects, or says why not.
pub(crate) async fn connect(
    settings: &ConnectionSettings,
    name: &str,
    interrupts: &mut Interrupts,
) -> Result<Connection, Failure> {
    within(settings, Connection::connect(settings.config(name)), interrupts).await
}

/// Connects to all servers that can be reached, so often to each, or says why not.
pub(crate) async fn connect_many(
    settings: &ConnectionSettings,
    name: &str,
    per_server: usize,
    interrupts: &mut Interrupts,
) -> Result<Connections, Failure> {
    // All are dialled at once, each within two of these.
    let config = settings.config(name).connect_timeout(settings.timeout / 5);
    let builder = Connections::builder(config)
        .per_server(per_server..=per_server)
        .warm_up();
    within(settings, builder.connect(), interrupts).await
}

async fn within<T>(
    settings: &ConnectionSettings,
    connect: impl Future<Output = Result<T, ConnectError>>,
    interrupts: &mut Interrupts,
) -> Result<T, Failure> {
    let limit = settings.timeout.saturating_add(SLACK);
    let outcome = tokio::select! {
        outcome = timeout(limit, connect) => outcome,
        signal = interrupts.next() => return Err(interrupted(signal)),
    };
    match outcome {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(error)) => {
            let is_identity = error.kind() == ConnectErrorKind::Authentication || error.field() == Some("credentials");
            let mut failure = Failure::from(error);
            if is_identity {
                failure.hint = settings.identity_hint().or(failure.hint);
            }
            Err(failure)
        }
        Err(_) => Err(Failure::text(
            Exit::NoConnection,
            format!("no connection within {}", humantime::format_duration(settings.timeout)),
        )
        .with_hint("a larger --timeout waits longer; --server or NATS_URL says where NATS is")),
    }
}

/// Ends a connection; what was sent reaches nats-server first, if that is possible.
pub(crate) async fn close(connection: &Connection) {
    if let Err(error) = connection.close(CLOSE).await {
        tracing::debug!(%error, "the end of the connection was not confirmed");
    }
}

/// As [`close`], unless a signal comes meanwhile.
pub(crate) async fn leave(connection: &Connection, interrupts: &mut Interrupts) {
    tokio::select! {
        () = close(connection) => {}
        signal = interrupts.next() => tracing::debug!(signal, "the connection was not closed"),
    }
}

/// The failure of a command whose connection has ended for good.
pub(crate) fn ended(connection: &Connection) -> Failure {
    const TEXT: &str = "the connection is closed";
    match connection.end_reason() {
        Some(reason @ EndReason::CredentialsRefused { .. }) => {
            Failure::new(Exit::NotPermitted, anyhow::Error::new(reason).context(TEXT))
                .with_hint("`natstream config show --origin` says where the credentials come from")
        }
        Some(reason) => Failure::new(Exit::NoConnection, anyhow::Error::new(reason).context(TEXT)),
        None => Failure::text(Exit::NoConnection, TEXT),
    }
}

/// The failure of a command that a signal ended.
pub(crate) fn interrupted(signal: &str) -> Failure {
    Failure::text(Exit::Interrupted, format!("interrupted by {signal}"))
}

/// What nats-server refuses from now on.
#[derive(Debug)]
pub(crate) struct Refusals {
    events: broadcast::Receiver<ServerErrorEvent>,
}

/// What helps a user that may not serve.
pub(crate) const PERMISSIONS: &str = "the user's permissions decide (`natstream doctor` looks at them); where control \
                                      messages are received can be changed with --inbox-prefix";

/// Something that this user may not do.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) operation: Operation,
    pub(crate) subject: String,
    text: String,
}

impl Refusals {
    pub(crate) fn of(connection: &Connection) -> Self {
        Self {
            events: connection.server_errors(),
        }
    }

    /// Completes with the next refusal.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Refusal {
        loop {
            match self.events.recv().await {
                Ok(event) => {
                    if let Some(refusal) = Refusal::of(event) {
                        return refusal;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

impl Refusal {
    fn of(event: ServerErrorEvent) -> Option<Self> {
        match event {
            ServerErrorEvent::PermissionViolation {
                operation, ref subject, ..
            } => Some(Self {
                operation,
                subject: subject.clone(),
                text: event.to_string(),
            }),
            other => {
                tracing::warn!(error = %other, "nats-server complains");
                None
            }
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn into_failure(self) -> Failure {
        Failure::text(Exit::NotPermitted, self.text).with_hint(PERMISSIONS)
    }
}

/// Tells about lost and found connections; completes when the connection is closed for good.
pub(crate) async fn tell_state(connection: &Connection, console: Console) {
    let mut states = connection.state();
    let mut was_connected = true;
    loop {
        let status = states.borrow_and_update().status;
        let is_connected = status == ConnectionStatus::Connected;
        match (was_connected, is_connected) {
            _ if status == ConnectionStatus::Closed => return,
            (true, false) => console.progress("the connection is lost; reconnecting"),
            (false, true) => console.progress("connected again"),
            _ => {}
        }
        was_connected = is_connected;
        if states.changed().await.is_err() {
            return;
        }
    }
}
