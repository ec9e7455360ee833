//! What the other processes of a run do: tasks come as lines of JSON on standard input, answers go to standard output.

use std::time::Duration;

use anyhow::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin, stdout};

use crate::allocator;

/// The task that every role understands: how many allocations it has made.
pub(crate) const USAGE: &str = "usage";

/// Longer than any task takes; a peer that has lost the end of a stream would wait for ever.
const LIMIT: Duration = Duration::from_secs(120);

/// How much was done, and how long it took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) items: u64,
    pub(crate) seconds: f64,
}

impl Done {
    /// Items a second.
    pub(crate) fn rate(&self) -> f64 {
        self.items as f64 / self.seconds
    }
}

/// Does one task after the other until standard input ends: the parent closes the pipe when it is done, and when it dies.
///
/// `url` is what the parent is told when this process is ready.
pub(crate) async fn serve<T, Fut>(url: &str, mut work: impl FnMut(T) -> Fut) -> Result<()>
where
    T: DeserializeOwned,
    Fut: Future<Output = Result<Value>> + Send + 'static,
{
    say(&url).await?;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let task: Value = serde_json::from_str(&line)?;
        if task == USAGE {
            say(&allocator::count()).await?;
            continue;
        }
        // In a task, as in a service: the main thread is not one of the runtime's workers.
        let working = tokio::spawn(work(serde_json::from_value(task)?));
        let answer = tokio::select! {
            answer = tokio::time::timeout(LIMIT, working) => answer???,
            // Nobody asks again before the answer: the parent is gone.
            _ = lines.next_line() => return Ok(()),
        };
        say(&answer).await?;
    }
    Ok(())
}

async fn say(answer: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut out = stdout();
    out.write_all(&line).await?;
    out.flush().await?;
    Ok(())
}
