//! `natstream kv watch`: changes as they come.

use bytes::Bytes;
use clap::Args;
use natstream::Connection;
use natstream::eventbus::kv::{Change, Watch};

use super::{open, show};
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};
use crate::program::Context;

/// Print the values that there are, and what changes, until told to end.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  natstream kv watch config 'limits.>'\n  natstream kv watch config --once --json")]
pub(super) struct WatchArgs {
    /// The bucket.
    bucket: String,
    /// Only these keys: `*` stands for one part between dots, `>` for all that follow.
    #[arg(default_value = ">")]
    filter: String,
    /// Only what changes from now on.
    #[arg(long, conflicts_with = "from")]
    changes: bool,
    /// All revisions that the bucket has, from this one on.
    #[arg(long, value_name = "REVISION")]
    from: Option<u64>,
    /// End when what there is has been printed.
    #[arg(long)]
    once: bool,
    /// End after so many.
    #[arg(long, value_name = "N")]
    max_items: Option<u64>,
}

pub(super) async fn run(context: &mut Context, connection: &Connection, args: WatchArgs) -> Result<Exit, Failure> {
    let Context {
        interrupts, console, ..
    } = context;
    let mut output = Output::new();
    let ended = tokio::select! {
        ended = print(connection, &args, &mut output, *console) => ended,
        () = output::closed() => return Ok(Exit::Complete),
        signal = interrupts.next() => {
            tracing::debug!(signal, "told to end");
            Ok(())
        }
    };
    let flushed = output.flush().await;
    ended?;
    match flushed.map_err(output::failure) {
        Err(Some(failure)) => Err(failure),
        Ok(()) | Err(None) => Ok(Exit::Complete),
    }
}

async fn print(
    connection: &Connection,
    args: &WatchArgs,
    output: &mut Output,
    console: crate::console::Console,
) -> Result<(), Failure> {
    let kv = open(connection, &args.bucket).await?;
    let mut watch: Watch<Bytes> = match args.from {
        Some(revision) => kv.watch_from(&args.filter, revision).await?,
        None if args.changes => kv.watch_changes(&args.filter).await?,
        None => kv.watch(&args.filter).await?,
    };
    let mut printed = 0;
    while args.max_items.is_none_or(|most| printed < most) {
        match watch.next().await? {
            Change::Entry(entry) => {
                output
                    .buffer()
                    .extend_from_slice(&show::entry(&entry, console.is_json()));
                printed += 1;
                if let Err(Some(failure)) = output.flush().await.map_err(output::failure) {
                    return Err(failure);
                }
            }
            _ if args.once => break,
            _ => console.progress(&format!("watching {}", args.bucket)),
        }
    }
    Ok(())
}
