//! Publishing through files that outlive the command.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use natstream::eventbus::{Ordering, Outbox, OutboxError, OutboxStats, Published, SpoolLevel};
use natstream::{Event, PublishError, PublishErrorKind};
use serde_json::json;
use tokio::time::interval;

use super::publish::{LEAVE, PROGRESS};
use super::source::Source;
use super::tally::Tally;
use crate::clock;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::session;
use crate::size;

/// Where events are kept until a stream has them.
#[derive(Args, Debug)]
pub(super) struct SpoolArgs {
    /// Keep events in this directory until a stream has them: they are accepted without a server too, and what is left is
    /// delivered by the next command with the same directory.
    #[arg(long = "spool", value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// What accepted events survive: the death of the process, or a loss of power (slower).
    #[arg(long = "spool-level", value_enum, default_value_t, requires = "dir")]
    level: Level,
    /// Most bytes in the directory; what comes then waits.
    #[arg(long = "spool-size", value_name = "SIZE", default_value = "1GiB", requires = "dir", value_parser = size::parse)]
    max_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    /// The death of the process.
    #[default]
    Process,
    /// A loss of power.
    Power,
}

/// How to publish.
pub(super) struct Plan {
    pub(super) window: usize,
    pub(super) is_strict: bool,
    /// Wait for the ack of each event.
    pub(super) one_by_one: bool,
    pub(super) deadline: Duration,
}

/// Publishes all events of the source through the directory.
pub(super) async fn run(
    mut context: Context,
    args: SpoolArgs,
    dir: PathBuf,
    plan: Plan,
    source: Source,
) -> Result<Exit, Failure> {
    let tally = Arc::new(Tally::default());
    let builder = Outbox::builder(&dir)
        .level(match args.level {
            Level::Process => SpoolLevel::Process,
            Level::Power => SpoolLevel::Power,
        })
        .max_bytes(args.max_bytes)
        .window(plan.window)
        .deadline(plan.deadline)
        .ordering(if plan.is_strict {
            Ordering::Strict
        } else {
            Ordering::Fast
        })
        .on_failure({
            let tally = tally.clone();
            move |error| tally.note(&error)
        });
    let outbox = builder.open().await.map_err(|error| match error {
        OutboxError::InvalidSetting { .. } => Failure::new(Exit::Usage, error),
        OutboxError::InUse(_) => Failure::new(Exit::Failed, error)
            .with_hint("each process needs a directory of its own: `--spool` names it".to_owned()),
        error => Failure::new(Exit::Failed, error),
    })?;
    outbox.connect(context.connection.config("natstream bus"));
    let began = clock::now();
    let published = tokio::select! {
        published = publish(&outbox, &tally, &plan, source) => published,
        () = progress(context.console, &outbox) => Ok(()),
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    // Whoever has published has waited.
    let limit = if published.is_ok() { Duration::ZERO } else { LEAVE };
    let closed = tokio::select! {
        closed = outbox.close(limit) => closed,
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
    };
    let stats = outbox.stats();
    summarize(&context, stats, &tally, (clock::now() - began).as_secs_f64());
    published?;
    if let Some(failure) = tally.failure() {
        return Err(failure.with_hint(format!("they are kept in {}", dir.join("rejected").display())));
    }
    if closed.is_err() && stats.spooled > 0 {
        let text = format!(
            "{} events are in {} and not in a stream yet",
            stats.spooled,
            dir.display()
        );
        let hint = "nothing is lost: the next command with this --spool delivers them".to_owned();
        return Err(Failure::text(Exit::Incomplete, text).with_hint(hint));
    }
    Ok(Exit::Complete)
}

async fn publish(outbox: &Outbox, tally: &Tally, plan: &Plan, mut source: Source) -> Result<(), Failure> {
    while let Some(event) = source.next().await? {
        match accept(outbox, plan, event).await {
            Err(error) if error.kind() == PublishErrorKind::Closed => return Err(Failure::new(Exit::Failed, error)),
            // Others that were accepted and refused are told by the outbox.
            Err(error) if error.attempts() == 0 => tally.note(&error),
            Ok(()) | Err(_) => {}
        }
    }
    // What is left is told at the end.
    let _ = outbox.flush(plan.deadline).await;
    Ok(())
}

async fn accept(outbox: &Outbox, plan: &Plan, event: Event) -> Result<(), PublishError> {
    if !plan.one_by_one {
        return outbox.enqueue(event).await;
    }
    match outbox.publish(event).await? {
        Published::Spooled => tracing::debug!("an event is in the spool, and was not acked in time"),
        _acked => {}
    }
    Ok(())
}

/// Tells how far it is, now and then; never completes.
async fn progress(console: Console, outbox: &Outbox) {
    let mut ticks = interval(PROGRESS);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let OutboxStats {
            accepted,
            acked,
            spooled,
            rejected,
            ..
        } = outbox.stats();
        console.progress(&format!(
            "{accepted} accepted, {acked} acked, {spooled} in the spool, {rejected} refused"
        ));
    }
}

fn summarize(context: &Context, stats: OutboxStats, tally: &Tally, seconds: f64) {
    let OutboxStats {
        accepted,
        found,
        acked,
        duplicates,
        rejected,
        spooled,
        damaged,
        ..
    } = stats;
    context.console.summary(
        || {
            format!(
                "published: {accepted} accepted and {found} found in the spool, {acked} acked ({duplicates} duplicate), \
                 {rejected} refused, {spooled} left in the spool"
            )
        },
        || {
            json!({
                "accepted": accepted,
                "found": found,
                "acked": acked,
                "duplicate": duplicates,
                "rejected": rejected,
                "spooled": spooled,
                "damaged_files": damaged,
                "seconds": seconds,
                "failures": tally.json(),
            })
        },
    );
}
