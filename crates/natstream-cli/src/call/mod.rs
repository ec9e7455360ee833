//! `natstream call`: ask, and print what comes.

mod summary;

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use natstream::connect::check_publish_subject;
use natstream::{Connection, Dialect, Pool, RequestBuilder, RequestError, Responses, RetryPolicy};

use self::summary::{Ended, Summary};
use crate::clock::now;
use crate::content::Content;
use crate::exit::{Exit, Failure};
use crate::format::FormatArgs;
use crate::output::{self, Output};
use crate::program::Context;
use crate::session;
use crate::{duration, size};

const EXAMPLES: &str = "\
Examples:
  natstream call orders.search '{\"status\":\"open\"}' --deadline 30s
  gzip -c query.sql | natstream call reports.run - --jsonl | jq .data

A closed standard output is not an error: the call is cancelled, and the exit code is 0.";

/// When a responder has shown itself at the latest: 200 ms after it got the request, and the way there and back.
const FIRST_SIGN: Duration = Duration::from_millis(500);

/// Ask a subject, and print each item of the answer as it arrives.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, override_usage = "natstream call [OPTIONS] <SUBJECT> [DATA | @FILE | -]")]
pub(crate) struct CallArgs {
    /// Whom to ask.
    subject: String,
    #[command(flatten)]
    content: Content,
    /// Longest wait for the first item [default: none].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    first_timeout: Option<Duration>,
    /// Longest wait between two items [default: none].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    idle_timeout: Option<Duration>,
    /// Time for the whole call; the other side is told what is left of it [default: none].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    deadline: Option<Duration>,
    /// Interval of heartbeats, 1s to 60s; who is silent for three of them is lost [default: 5s].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_heartbeat)]
    heartbeat: Option<Duration>,
    /// How much the other side may send ahead of what was printed, at least 8KiB [default: 8MiB].
    #[arg(long, value_name = "SIZE", value_parser = size::parse_window)]
    window: Option<u64>,
    /// Largest item that is taken [default: 16MiB].
    #[arg(long, value_name = "SIZE", value_parser = size::parse_positive)]
    max_item: Option<u64>,
    /// Ask again so often when the answer fails or breaks off; its items come again from the first one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Wait before asking again; longer where the other side says so.
    #[arg(long, value_name = "DUR", default_value = "500ms", value_parser = duration::parse, requires = "retries")]
    retry_delay: Duration,
    /// How long the connection may be down before the answer is lost [default: 30s].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    outage: Option<Duration>,
    /// How to ask, and what to read the answer as: native, text, sentinel, auto:text, auto:sentinel. The last two ask natively,
    /// and take what follows the colon when the answer is not native.
    #[arg(long, value_name = "DIALECT", default_value_t)]
    dialect: Dialect,
    /// Name of this client for responders of the text dialect, which stop its calls when it leaves.
    #[arg(long, value_name = "ID")]
    connect_id: Option<String>,
    /// Send nothing but the request, for users that may not publish more. What is lost is noticed, and not sent again.
    #[arg(long, requires = "deadline")]
    no_control: bool,
    /// Cancel the call after this many items; the exit code is 0.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_items: Option<u64>,
    #[command(flatten)]
    format: FormatArgs,
}

impl CallArgs {
    fn request(&self, pool: &Pool, body: Bytes, timeout: Duration) -> RequestBuilder {
        let mut request = pool.request_stream(&self.subject, body).connect_timeout(timeout);
        for (name, value) in self.content.headers() {
            request = request.header(name, value);
        }
        if let Some(timeout) = self.first_timeout {
            request = request.first_item_timeout(timeout);
        }
        if let Some(timeout) = self.idle_timeout {
            request = request.idle_timeout(timeout);
        }
        if let Some(deadline) = self.deadline {
            request = request.deadline(deadline);
        }
        if let Some(heartbeat) = self.heartbeat {
            request = request.heartbeat(heartbeat);
        }
        if self.retries > 0 {
            request = request.retry(RetryPolicy::fixed(self.retries, self.retry_delay).restart());
        }
        request = request.dialect(self.dialect);
        if let Some(id) = &self.connect_id {
            request = request.connect_id(id);
        }
        if self.no_control {
            request = request.without_control();
        }
        if let Some(limit) = self.outage {
            request = request.outage_limit(limit);
        }
        if let Some(window) = self.window {
            request = request.window(size::to_usize(window));
        }
        if let Some(max_item) = self.max_item {
            request = request.max_item(size::to_usize(max_item));
        }
        request
    }
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: CallArgs) -> Result<Exit, Failure> {
    check_publish_subject(&args.subject).map_err(|error| Failure::subject(&args.subject, error))?;
    let body = tokio::select! {
        body = args.content.read() => body?,
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
    };
    let connection = session::connect(&context.connection, "natstream call", &mut context.interrupts).await?;
    let outcome = call(&mut context, &connection, &args, body).await;
    // The connection went away by itself after a failure to send; closing it then is quick.
    session::leave(&connection, &mut context.interrupts).await;
    let (summary, ended) = outcome?;
    context
        .console
        .summary(|| summary.text(&ended), || summary.json(&ended));
    match ended {
        Ended::Complete | Ended::MaxItems | Ended::OutputClosed => Ok(Exit::Complete),
        Ended::Interrupted(signal) => Err(session::interrupted(signal)),
        Ended::Stopped { failure, .. } => Err(failure),
        Ended::Failed(error) => Err(error.into()),
    }
}

/// The call itself. A failure here is one before the request was sent.
async fn call(
    context: &mut Context,
    connection: &Connection,
    args: &CallArgs,
    body: Bytes,
) -> Result<(Summary, Ended), Failure> {
    let Context {
        interrupts, console, ..
    } = context;
    let pool = Pool::new(connection.clone());
    let epoch = connection.state().borrow().epoch;
    let started = now();
    let mut responses = tokio::select! {
        responses = args.request(&pool, body, context.connection.timeout).send() => responses?,
        signal = interrupts.next() => return Err(session::interrupted(signal)),
    };
    let mut output = Output::new();
    let mut tally = Tally::new(started);
    let mut ended = tokio::select! {
        biased;
        signal = interrupts.next() => Ended::Interrupted(signal),
        () = output::closed() => Ended::OutputClosed,
        () = session::tell_state(connection, *console) => {
            let why = session::ended(connection).error;
            let failure = Failure::new(Exit::Lost, why.context("the answer is not complete"));
            Ended::stopped("no_connection", failure)
        }
        ended = print(&mut responses, &mut output, args, &mut tally) => ended,
    };
    let duration = started.elapsed();
    if !matches!(ended, Ended::Interrupted(_) | Ended::OutputClosed) {
        tokio::select! {
            written = output.flush() => if let Err(error) = written && matches!(ended, Ended::Complete | Ended::MaxItems) {
                ended = not_written(error);
            },
            signal = interrupts.next() => ended = Ended::Interrupted(signal),
        }
    }
    let summary = Summary {
        items: tally.items,
        bytes: tally.bytes,
        first_item: tally.first_item,
        duration,
        guarantee: responses.guarantee(),
        attempts: responses.attempt(),
        retransmitted: responses.retransmitted(),
        reconnects: connection.state().borrow().epoch.saturating_sub(epoch),
    };
    let is_unseen = !args.no_control && responses.headers().is_none() && ended.leaves_early();
    // Cancels what has not ended.
    drop(responses);
    if is_unseen {
        // The responder cannot be told before it has shown itself; its first message is then answered with the cancel.
        tokio::select! {
            () = tokio::time::sleep(FIRST_SIGN.saturating_sub(started.elapsed())) => {}
            signal = interrupts.next() => tracing::debug!(signal, "the responder may not have been told"),
        }
    }
    Ok((summary, ended))
}

/// Prints items until the end.
async fn print(responses: &mut Responses, output: &mut Output, args: &CallArgs, tally: &mut Tally) -> Ended {
    let format = args.format.format();
    loop {
        let next = match next_if_ready(responses).await {
            Some(next) => next,
            None => {
                // Nothing more at this moment: now the reader wants to see what there is.
                if let Err(error) = output.flush().await {
                    return not_written(error);
                }
                responses.next().await
            }
        };
        match next {
            Some(Ok(item)) => {
                let seq = responses.received() - 1;
                format.append(|| format!("\"seq\":{seq}"), &item, output.buffer());
                tally.count(&item);
                if let Err(error) = output.write_if_full().await {
                    return not_written(error);
                }
                if args.max_items == Some(tally.items) {
                    return Ended::MaxItems;
                }
            }
            Some(Err(error)) => return Ended::Failed(error),
            None => return Ended::Complete,
        }
    }
}

/// The next item, or the end, if it is here already.
async fn next_if_ready(responses: &mut Responses) -> Option<Option<Result<Bytes, RequestError>>> {
    let mut next = pin!(responses.next());
    poll_fn(|cx| match next.as_mut().poll(cx) {
        Poll::Ready(next) => Poll::Ready(Some(next)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn not_written(error: io::Error) -> Ended {
    output::failure(error).map_or(Ended::OutputClosed, |failure| Ended::stopped("output_failed", failure))
}

/// What was printed so far.
#[derive(Debug)]
struct Tally {
    started: Instant,
    items: u64,
    bytes: u64,
    first_item: Option<Duration>,
}

impl Tally {
    fn new(started: Instant) -> Self {
        Self {
            started,
            items: 0,
            bytes: 0,
            first_item: None,
        }
    }

    fn count(&mut self, item: &[u8]) {
        if self.items == 0 {
            self.first_item = Some(self.started.elapsed());
        }
        self.items += 1;
        self.bytes += item.len() as u64;
    }
}
