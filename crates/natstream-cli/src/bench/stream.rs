//! `natstream bench stream`: calls whose items are numbered, one after another on each of several tasks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use natstream::connect::token;
use natstream::{Connections, Pool, Server};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval_at, sleep};

use super::figures::{Figures, Live};
use super::load::{self, Order, Outcome, SMALLEST};
use super::report::{self, Report};
use crate::clock::now;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::program::Context;
use crate::session;
use crate::{duration, size};

const EXAMPLES: &str = "\
Examples:
  natstream bench stream
  natstream -s A,B,C bench stream --connections 4 --duration 1m

Every item carries its number, and the callers check each one. A call that fails, or an item that is not the right one, makes \
the exit code 1. Responders and callers are in this process, on connections of their own: one responder on each server.";

/// How long the connections' ends may take.
const CLOSE: Duration = Duration::from_secs(2);

/// Wait before the next call after one that failed: nobody may be there for a while.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Stream numbered items from responders to callers, both in this process.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StreamArgs {
    /// Connections of the callers to each server [default: the configured connections_per_server, or 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: Option<u16>,
    /// Calls that run at a time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    calls: u32,
    /// Items of each call.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    items: u64,
    /// Bytes of each item, at least 8.
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = item_size)]
    size: u64,
    /// How long new calls are made.
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = duration::parse_positive)]
    duration: Duration,
}

fn item_size(text: &str) -> Result<u64, String> {
    match size::parse(text)? {
        size if size < SMALLEST => Err(format!("an item has at least {SMALLEST} bytes: its number")),
        size => Ok(size),
    }
}

/// Runs the command.
pub(super) async fn run(mut context: Context, args: StreamArgs) -> Result<Exit, Failure> {
    let name = "natstream bench";
    let per_server = args
        .connections
        .map(usize::from)
        .unwrap_or_else(|| context.connection.per_server());
    let responders = session::connect_many(&context.connection, name, 1, &mut context.interrupts).await?;
    let callers = session::connect_many(&context.connection, name, per_server, &mut context.interrupts).await?;
    let subject = format!("natstream.bench.{}", token());
    let servers = serve(&responders, &subject).await?;
    let outcome = measure(&mut context, &args, &callers, &subject).await;
    for server in &servers {
        server.drain(Duration::ZERO).await;
    }
    drop(servers);
    let closing = async { tokio::join!(callers.close(CLOSE), responders.close(CLOSE)) };
    tokio::select! {
        _ = closing => {}
        signal = context.interrupts.next() => tracing::debug!(signal, "the connections were not closed"),
    }
    let report = outcome?;
    let text = match context.console.is_json() {
        true => format!("{}\n", report.json()),
        false => report.text(),
    };
    print(&text).await?;
    match (report.figures.failed(), report.figures.sample) {
        (0, _) => Ok(Exit::Complete),
        (failed, Some(error)) => Err(Failure::new(
            Exit::Failed,
            anyhow::Error::new(*error).context(format!("{failed} calls failed, one of them so")),
        )),
        (failed, None) => Err(Failure::text(
            Exit::Failed,
            format!("{failed} calls brought items that were not theirs"),
        )),
    }
}

/// One responder on each of these connections.
async fn serve(responders: &Connections, subject: &str) -> Result<Vec<Server>, Failure> {
    let mut servers = Vec::new();
    for _ in 0..responders.stats().up {
        let lease = responders.lease().await;
        let lease = lease.map_err(|reason| Failure::new(Exit::NoConnection, anyhow::Error::new(reason)))?;
        let server = Server::new(lease);
        server.on(subject, load::serve).await?;
        servers.push(server);
    }
    Ok(servers)
}

async fn measure(
    context: &mut Context,
    args: &StreamArgs,
    callers: &Connections,
    subject: &str,
) -> Result<Report, Failure> {
    let pool = Pool::new(callers.clone());
    let order = Order {
        items: args.items,
        size: args.size,
    };
    let live = Arc::new(Live::default());
    let (stop, stopped) = watch::channel(false);
    let figures = Arc::new(Mutex::new(Figures::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..args.calls {
        let caller = Caller {
            pool: pool.clone(),
            subject: subject.to_owned(),
            order,
            live: live.clone(),
            figures: figures.clone(),
        };
        tasks.spawn(caller.run(stopped.clone()));
    }
    let begin = now();
    let mut seconds = interval_at(begin.into(), Duration::from_secs(1));
    let mut end = std::pin::pin!(sleep(args.duration));
    let (mut second, mut before) = (0, 0);
    loop {
        tokio::select! {
            biased;
            () = &mut end => break,
            signal = context.interrupts.next() => return Err(session::interrupted(signal)),
            _ = seconds.tick() => {
                // The first comes at once.
                if second > 0 {
                    let items = live.items();
                    context.console.progress(&report::progress(second, items - before, &callers.stats(), &live));
                    before = items;
                }
                second += 1;
            }
        }
    }
    let (elapsed, items, bytes, stats) = (now() - begin, live.items(), live.bytes(), callers.stats());
    // It fails when all have ended, which they do not.
    let _ = stop.send(true);
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| Failure::new(Exit::Failed, anyhow::Error::new(error)))?;
    }
    let figures = std::mem::replace(&mut *figures.lock(), Figures::new());
    Ok(Report {
        elapsed,
        items,
        bytes,
        figures,
        callers: stats,
    })
}

/// Makes one call after another.
struct Caller {
    pool: Pool,
    subject: String,
    order: Order,
    live: Arc<Live>,
    figures: Arc<Mutex<Figures>>,
}

impl Caller {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut over = stopped.clone();
        while !*stopped.borrow() {
            let stop = async { drop(stopped.wait_for(|stopped| *stopped).await) };
            let count = |size| self.live.item(size);
            let called = load::call(&self.pool, &self.subject, self.order, count, stop).await;
            let failed = matches!(called.outcome, Outcome::Failed(_) | Outcome::Wrong);
            self.figures.lock().add(called);
            if failed {
                tokio::select! {
                    () = sleep(AFTER_FAILURE) => {}
                    _ = over.changed() => {}
                }
            }
        }
    }
}

async fn print(text: &str) -> Result<(), Failure> {
    let mut output = Output::new();
    output.buffer().extend_from_slice(text.as_bytes());
    match output.flush().await {
        // A closed pipe is not an error; a full disk is.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let error = anyhow::Error::new(error).context("the table cannot be written to standard output");
            Err(Failure::new(Exit::Lost, error))
        }
        _ => Ok(()),
    }
}
