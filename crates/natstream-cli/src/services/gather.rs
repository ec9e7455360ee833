//! Asks, and takes what comes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use natstream::Connection;
use natstream::async_nats::StatusCode;
use tokio::time::timeout_at;

use super::{Row, STATS};
use crate::clock::now;
use crate::exit::{Exit, Failure};

/// More answers are not taken: they are somebody's flood. An honest one has about 700 bytes for each endpoint.
const MAX_BYTES: usize = 64 << 20;

/// More endpoints are not taken either: 50 MiB.
const MAX_ROWS: usize = 100_000;

/// How long answers are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// The most, and for the first answer.
    pub(crate) total: Duration,
    /// After the latest answer.
    pub(crate) quiet: Duration,
}

impl Patience {
    /// Services of one site answer within milliseconds, those on other continents within half a second; a process that is
    /// busy may take longer than the others.
    pub(crate) const LIST: Self = Self {
        total: Duration::from_secs(2),
        quiet: Duration::from_millis(300),
    };
}

/// What was answered.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// With the moment at which each came; sorted by name, subject, endpoint and id.
    pub(crate) rows: Vec<(Row, Instant)>,
    /// Services that answered, of any kind.
    pub(crate) services: usize,
}

/// Asks all services for their statistics.
///
/// # Cancel safety
/// Dropping the future ends the question.
pub(crate) async fn gather(connection: &Connection, patience: Patience) -> Result<Gathered, Failure> {
    let nats = connection.nats();
    let inbox = nats.new_inbox();
    let end = tokio::time::Instant::from_std(now()) + patience.total;
    let mut gathered = Gathered::default();
    let ask = async {
        let answers = nats.subscribe(inbox.clone()).await.map_err(failed)?;
        let asked = nats.publish_with_reply(STATS, inbox, Bytes::new()).await;
        asked.map_err(failed)?;
        Ok::<_, Failure>(answers)
    };
    // While the connection is down, asking may wait.
    let Ok(answers) = timeout_at(end, ask).await else {
        return Ok(gathered);
    };
    let mut answers = answers?;
    let (mut until, mut bytes) = (end, 0);
    while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            break;
        }
        let arrived = now();
        gathered.services += 1;
        gathered
            .rows
            .extend(Row::read(&answer.payload).into_iter().map(|row| (row, arrived)));
        bytes += answer.payload.len();
        if bytes > MAX_BYTES || gathered.rows.len() > MAX_ROWS {
            break;
        }
        until = end.min(tokio::time::Instant::from_std(arrived) + patience.quiet);
    }
    gathered.rows.truncate(MAX_ROWS);
    gathered.rows.sort_by(|(a, _), (b, _)| a.key().cmp(&b.key()));
    Ok(gathered)
}

fn failed(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::NoConnection, error.into().context("services cannot be asked"))
}
