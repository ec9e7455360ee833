//! `natstream serve`: answer every request on a subject with a stream.

mod command;
mod file;
mod generate;
mod last_line;
mod lines;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use natstream::connect::{Operation, check_queue_group, check_subscribe_subject};
use natstream::metrics::observe;
use natstream::{Connection, Endpoint, EndpointBuilder, ForeignDialect, Server};
use serde_json::json;

use self::command::Command;
use self::file::File;
use self::generate::Generate;
use crate::children::Children;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::exposition::{Exposition, MetricsArgs};
use crate::program::Context;
use crate::session::{self, Refusals};
use crate::{duration, size};

const EXAMPLES: &str = "\
Examples:
  natstream serve logs.follow --lines /var/log/syslog --follow
  natstream serve files.find --max-concurrent 4 -- sh -c 'find /srv -name \"$NATS_REQUEST_BODY\"'

With a command, the body of the request is its standard input, and NATS_REQUEST_SUBJECT and NATS_REQUEST_BODY are in its \
environment (the latter unless it is longer than 64KiB, not UTF-8, or has a NUL). It runs in a process group of its own, \
which is killed when the caller leaves. A body is what somebody else wrote: a shell must have it in quotes.

SIGTERM and Ctrl-C drain: running calls may end, new ones go to others. A second signal ends at once.";

/// How long children that were killed may take to vanish.
const REAP: Duration = Duration::from_secs(2);

/// Answer every request on a subject with a stream: the lines of a command or of a file, or generated items.
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    group = ArgGroup::new("source").args(["command", "lines", "count"]).required(true),
    override_usage = "natstream serve [OPTIONS] <SUBJECT> -- <CMD> [ARGS]...\n       \
                      natstream serve [OPTIONS] <SUBJECT> --lines <FILE> [--follow]\n       \
                      natstream serve [OPTIONS] <SUBJECT> --count <N> [--size <SIZE>] [--interval <DUR>]"
)]
pub(crate) struct ServeArgs {
    /// What to serve; may have wildcards.
    subject: String,
    /// Answer with the lines that this command prints; it is run for each request. Exit code 0 ends the answer, another one
    /// fails it with the last line of its standard error.
    #[arg(last = true, value_names = ["CMD", "ARGS"])]
    command: Vec<OsString>,
    /// Answer with the lines of this file.
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
    /// Go on with lines that are added to the file, as tail -F does, until the caller leaves.
    #[arg(long, requires = "lines", conflicts_with_all = ["command", "count"])]
    follow: bool,
    /// Answer with this many items: the numbers from 0.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Pad each of these items with dots to this size.
    #[arg(long, value_name = "SIZE", value_parser = size::parse, requires = "count", conflicts_with_all = ["command", "lines"])]
    size: Option<u64>,
    /// Wait so long between two of these items.
    #[arg(long, value_name = "DUR", value_parser = duration::parse, requires = "count", conflicts_with_all = ["command", "lines"])]
    interval: Option<Duration>,
    /// Queue group: each request reaches one of its members.
    #[arg(long, value_name = "GROUP", default_value = "q")]
    queue: String,
    /// Name of the service, for natstream ls and other tools: letters, digits, - and _.
    #[arg(long, value_name = "NAME", default_value = "natstream-serve")]
    name: String,
    /// Most calls that run at a time; more are refused [default: no limit].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_concurrent: Option<u64>,
    /// Most calls that wait for a running one to end; more are refused.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "max_concurrent")]
    max_queued: u64,
    /// Largest item; a longer line fails the answer [default: 16MiB].
    #[arg(long, value_name = "SIZE", value_parser = size::parse_positive)]
    max_item: Option<u64>,
    /// How to answer programs that do not speak the native dialect.
    #[arg(long, value_enum, value_name = "DIALECT", default_value_t)]
    foreign_dialect: Foreign,
    /// Also answer callers that may not publish to control subjects (call --no-control).
    #[arg(long)]
    allow_uncontrolled: bool,
    /// Interval of heartbeats where the caller asks for none, 1s to 60s [default: 5s].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_heartbeat)]
    heartbeat: Option<Duration>,
    /// How long running calls may go on after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = duration::parse)]
    drain: Duration,
    #[command(flatten)]
    metrics: MetricsArgs,
}

#[cfg(test)]
impl ServeArgs {
    pub(crate) fn drain(&self) -> Duration {
        self.drain
    }
}

/// The forms of an answer for other programs.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Foreign {
    /// Each item is a message; `__STREAM_END__` or `__STREAM_ERROR__:text` ends the answer.
    #[default]
    Text,
    /// Each item is a message; an empty one ends the answer.
    Sentinel,
    /// An error.
    Refuse,
}

impl From<Foreign> for ForeignDialect {
    fn from(foreign: Foreign) -> Self {
        match foreign {
            Foreign::Text => Self::Text,
            Foreign::Sentinel => Self::Sentinel,
            Foreign::Refuse => Self::Refuse,
        }
    }
}

/// What answers.
#[derive(Debug)]
enum Source {
    Command(Command),
    File(File),
    Generate(Generate),
}

impl ServeArgs {
    /// Checks what can be checked before anybody asks.
    fn source(&self, children: &Children) -> Result<Source, Failure> {
        check_subscribe_subject(&self.subject).map_err(|error| Failure::subject(&self.subject, error))?;
        check_queue_group(&self.queue).map_err(|_| Failure::usage(format!("`{}` is not a queue group", self.queue)))?;
        match (self.command.split_first(), &self.lines, self.count) {
            (Some((program, args)), ..) => Ok(Source::Command(Command::new(program, args, children)?)),
            (None, Some(path), _) => Ok(Source::File(File::new(path, self.follow)?)),
            (None, None, Some(count)) => {
                if let (Some(size), Some(max)) = (self.size, self.max_item)
                    && size > max
                {
                    return Err(Failure::usage("--size is larger than --max-item"));
                }
                let interval = self.interval.filter(|interval| !interval.is_zero());
                Ok(Source::Generate(Generate::new(count, self.size.unwrap_or(0), interval)))
            }
            // The group of the arguments is required.
            (None, None, None) => Err(Failure::usage("there is nothing to answer with")),
        }
    }

    async fn start(&self, server: &Server, source: Source) -> Result<Endpoint, Failure> {
        let subject = self.subject.as_str();
        let mut endpoint: EndpointBuilder = match source {
            Source::Command(command) => server.handler(subject, command),
            Source::File(file) => server.handler(subject, file),
            Source::Generate(generate) => server.handler(subject, generate),
        }
        .queue_group(&self.queue)
        .foreign_dialect(self.foreign_dialect.into())
        .allow_uncontrolled(self.allow_uncontrolled);
        if let Some(calls) = self.max_concurrent {
            endpoint = endpoint
                .max_concurrent(size::to_usize(calls))
                .max_queued(size::to_usize(self.max_queued));
        }
        if let Some(bytes) = self.max_item {
            endpoint = endpoint.max_item(size::to_usize(bytes));
        }
        if let Some(interval) = self.heartbeat {
            endpoint = endpoint.heartbeat(interval);
        }
        Ok(endpoint.start().await?)
    }
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: ServeArgs) -> Result<Exit, Failure> {
    let children = Children::default();
    let source = args.source(&children)?;
    let exposition = args.metrics.start(context.console).await?;
    let connection = session::connect(&context.connection, "natstream serve", &mut context.interrupts).await?;
    exposition.add_connection(&connection);
    let outcome = serve(&mut context, &connection, &args, source, &children, &exposition).await;
    // Whatever is left: the calls have been told.
    children.kill_all();
    tokio::select! {
        () = async {
            session::close(&connection).await;
            let _ = tokio::time::timeout(REAP, children.gone()).await;
        } => {}
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
    }
    outcome
}

async fn serve(
    context: &mut Context,
    connection: &Connection,
    args: &ServeArgs,
    source: Source,
    children: &Children,
    exposition: &Exposition,
) -> Result<Exit, Failure> {
    let Context {
        interrupts, console, ..
    } = context;
    let console = *console;
    let mut refusals = Refusals::of(connection);
    let server = Server::builder(connection.clone()).name(&args.name).build();
    let endpoint = tokio::select! {
        endpoint = args.start(&server, source) => endpoint?,
        signal = interrupts.next() => return Err(session::interrupted(signal)),
    };
    exposition.add({
        let (server, endpoint, name) = (server.clone(), endpoint.clone(), args.name.clone());
        move || {
            observe(&name, &server);
            // The server does not name it any more while it drains.
            observe(&name, &endpoint);
            server.is_ready()
        }
    });
    console.progress(&format!("serving {}", args.subject));
    let outcome = tokio::select! {
        signal = interrupts.next() => {
            exposition.drain();
            console.progress(&format!("{signal}: draining"));
            tokio::select! {
                drained = server.drain(args.drain) => Ok(drained),
                signal = interrupts.next() => Err(session::interrupted(signal)),
            }
        }
        failure = watch(connection, &args.subject, &mut refusals, console) => Err(failure),
    };
    let drained = match outcome {
        Ok(drained) => drained,
        Err(failure) => {
            // Whoever waits for an answer is told now, or has to find out by itself.
            children.kill_all();
            tokio::select! {
                _ = server.drain(Duration::ZERO) => {}
                signal = interrupts.next() => tracing::debug!(signal, "callers may not have been told"),
            }
            return Err(failure);
        }
    };
    if drained.aborted > 0 {
        let limit = humantime::format_duration(args.drain);
        console.progress(&format!("calls that were ended after {limit}: {}", drained.aborted));
    }
    summarize(console, &endpoint);
    Ok(Exit::Complete)
}

/// Tells what happens to the connection; completes when nothing can be served any more.
async fn watch(connection: &Connection, subject: &str, refusals: &mut Refusals, console: Console) -> Failure {
    let refused = async {
        let mut is_told = false;
        loop {
            let refusal = refusals.next().await;
            let is_needed = refusal.subject == subject || refusal.subject.starts_with(connection.inbox_prefix());
            if refusal.operation == Operation::Subscribe && is_needed {
                return refusal.into_failure();
            }
            // What else is subscribed to can be done without. Of messages, the first says it all.
            if refusal.operation == Operation::Publish && !std::mem::replace(&mut is_told, true) {
                console.progress(&format!(
                    "warning: {}: callers do not get their answers",
                    refusal.text()
                ));
            }
        }
    };
    tokio::select! {
        failure = refused => failure,
        () = session::tell_state(connection, console) => session::ended(connection),
    }
}

fn summarize(console: Console, endpoint: &Endpoint) {
    let stats = endpoint.stats();
    console.summary(
        || {
            format!(
                "{} requests: {} finished, {} failed, {} cancelled, {} refused; {} items, {}",
                stats.requests,
                stats.finished,
                stats.failed,
                stats.cancelled,
                stats.refused,
                stats.items,
                size::display(stats.bytes as f64),
            )
        },
        || {
            json!({
                "requests": stats.requests,
                "finished": stats.finished,
                "failed": stats.failed,
                "cancelled": stats.cancelled,
                "refused": stats.refused,
                "items": stats.items,
                "bytes": stats.bytes,
            })
        },
    );
}
