//! `natstream request`: ask for one reply.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use natstream::connect::check_publish_subject;
use natstream::{Clock, Connection, Pool, Reply};

use crate::content::Content;
use crate::exit::{Exit, Failure};
use crate::format::{self, FormatArgs};
use crate::output::{self, Output};
use crate::program::Context;
use crate::session;

const EXAMPLES: &str = "\
Examples:
  natstream request service.ping hello
  natstream request service.add '[1,2,3]' --timeout 1s

The reply is the first message that comes; for the whole answer of a streaming endpoint there is natstream call.";

/// Ask a subject, and print the one message that it replies with.
///
/// --timeout is the longest wait for the reply, too.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, override_usage = "natstream request [OPTIONS] <SUBJECT> [DATA | @FILE | -]")]
pub(crate) struct RequestArgs {
    /// Whom to ask.
    subject: String,
    #[command(flatten)]
    content: Content,
    #[command(flatten)]
    format: FormatArgs,
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: RequestArgs) -> Result<Exit, Failure> {
    check_publish_subject(&args.subject).map_err(|error| Failure::subject(&args.subject, error))?;
    let payload = tokio::select! {
        payload = args.content.read() => payload?,
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
    };
    let connection = session::connect(&context.connection, "natstream request", &mut context.interrupts).await?;
    let outcome = tokio::select! {
        outcome = ask(&connection, &args, payload, context.connection.timeout) => outcome,
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    session::leave(&connection, &mut context.interrupts).await;
    let reply = outcome?;
    tokio::select! {
        printed = print(&args, &reply) => printed,
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    }
}

async fn ask(connection: &Connection, args: &RequestArgs, payload: Bytes, timeout: Duration) -> Result<Reply, Failure> {
    let pool = Pool::new(connection.clone());
    let mut request = pool.request(&args.subject, payload).timeout(timeout);
    for (name, value) in args.content.headers() {
        request = request.header(name, value);
    }
    request.send().await.map_err(|error| {
        let is_late = error.clock() == Some(Clock::Deadline);
        let failure = Failure::from(error);
        // There is one clock here.
        match is_late {
            true => failure.with_hint("a larger --timeout waits longer"),
            false => failure,
        }
    })
}

async fn print(args: &RequestArgs, reply: &Reply) -> Result<Exit, Failure> {
    let mut output = Output::new();
    let fields = || {
        let subject = format!("\"subject\":{}", serde_json::Value::from(args.subject.as_str()));
        let headers = format::headers(reply.headers());
        [Some(subject), headers]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(",")
    };
    let format = args.format.format();
    format.append(fields, reply.payload(), output.buffer());
    match output.flush().await {
        Ok(()) => Ok(Exit::Complete),
        Err(error) => output::failure(error).map_or(Ok(Exit::Complete), Err),
    }
}
