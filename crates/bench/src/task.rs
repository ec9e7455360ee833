//! What the parent asks of its two other processes, as lines of JSON on their standard input.

use anyhow::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt as _, stdout};

/// How a stream is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// natstream's native dialect.
    Native,
    /// async-nats: one message an item and an empty one at the end, or `request()` for a single answer.
    Plain,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Task {
    /// One call of many items. Answer: [`Streamed`].
    Stream { variant: Variant, items: u64, size: usize },
    /// Calls of one item, one after the other. Answer: [`Latency`].
    Latency { variant: Variant, calls: usize },
    /// Opens streams that stay idle after their first item, beside those that are open. Answer: their number.
    Open { streams: usize },
    /// Closes them. Answer: 0.
    Close,
    /// Answer: allocations of the process so far.
    Allocations,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) items: u64,
    pub(crate) seconds: f64,
}

/// What came of a stream.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Streamed {
    pub(crate) items: u64,
    pub(crate) seconds: f64,
    /// What the second half of the items took.
    pub(crate) later_half_seconds: f64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Says something to the parent.
pub(crate) async fn say(answer: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut out = stdout();
    out.write_all(&line).await?;
    out.flush().await?;
    Ok(())
}

/// Reads what [`say`] wrote.
pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> Result<T> {
    Ok(serde_json::from_str(line)?)
}
