//! What the suites share.

use std::time::Duration;

use natstream::{ConnectConfig, Connection, Pool, Server};

pub mod bus;
pub mod consume;
pub mod leaders;
pub mod load;
#[cfg(test)]
mod named;
pub mod numbers;
pub mod recording;
pub mod sinks;
pub mod world;

/// More than any single step of a suite takes; a hang fails there instead of at the end of CI.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A caller and a responder, each on a connection of its own, as two processes would be.
#[derive(Debug)]
pub struct Peers {
    /// The caller.
    pub pool: Pool,
    /// The responder.
    pub server: Server,
}

impl Peers {
    /// Connects both to the shared nats-server.
    pub async fn connect() -> Self {
        Self::connect_to(testkit::shared_url()).await
    }

    /// Connects both to the nats-server at `url`.
    pub async fn connect_to(url: &str) -> Self {
        Self {
            pool: Pool::new(connection(url).await),
            server: Server::new(connection(url).await),
        }
    }
}

/// A connection to `url`.
///
/// # Panics
/// When there is none to be had.
pub async fn connection(url: &str) -> Connection {
    let connect = Connection::connect(ConnectConfig::new(url));
    testkit::within(LIMIT, connect)
        .await
        .unwrap_or_else(|error| panic!("no connection to {url}: {error}"))
}

/// A number that a suite is told by an environment variable: see `cargo xtask it --help`.
///
/// # Panics
/// When it is no number.
#[must_use]
pub fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not `{value}`")),
    )
}

/// The number behind `name` in what a value shows of itself; there is no other way to see it from outside.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn number(value: &impl std::fmt::Debug, name: &str) -> u64 {
    let text = format!("{value:?}");
    let behind = text
        .split(name)
        .nth(1)
        .unwrap_or_else(|| panic!("no `{name}` in {text}"));
    let digits = behind.split(|c: char| !c.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("no number behind `{name}` in {text}"))
}
