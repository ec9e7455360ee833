//! `natstream ls`: the streaming endpoints on this NATS.

use std::io;

use clap::Args;
use natstream::Connection;

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::program::Context;
use crate::services::{self, Gathered, Patience, Row, format};
use crate::session::{self, Refusals};

const EXAMPLES: &str = "\
Examples:
  natstream ls
  natstream ls --json | jq 'select(.failed > 0)'

Columns: FOREIGN are calls of programs that know nothing of natstream, DENIED those whose answers nats-server did not let \
through; both are there only where there are some. RESENT are messages that were sent again, STALLED is how long senders waited for callers to read, AVERAGE how long a \
call lasts. Each process that serves has a row of its own. Nobody there is exit code 3.";

/// List the streaming endpoints on this NATS, with their counters.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LsArgs {}

/// Runs the command.
pub(crate) async fn run(mut context: Context, _args: LsArgs) -> Result<Exit, Failure> {
    let connection = session::connect(&context.connection, "natstream ls", &mut context.interrupts).await?;
    let outcome = list(&mut context, &connection).await;
    session::leave(&connection, &mut context.interrupts).await;
    outcome
}

async fn list(context: &mut Context, connection: &Connection) -> Result<Exit, Failure> {
    let mut refusals = Refusals::of(connection);
    let gathered = tokio::select! {
        biased;
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
        refusal = refusals.next() => return Err(refusal.into_failure()),
        gathered = services::gather(connection, Patience::LIST) => gathered?,
    };
    if gathered.rows.is_empty() {
        return Err(nobody(&gathered));
    }
    let rows = gathered.rows.iter().map(|(row, _)| row);
    let text = match context.console.is_json() {
        true => rows.map(|row| format::json_line(&Row::json(row)) + "\n").collect(),
        false => format::table(rows),
    };
    let mut output = Output::new();
    output.buffer().extend_from_slice(text.as_bytes());
    tokio::select! {
        written = output.flush() => match written {
            // A closed pipe is not an error; a full disk is.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let error = anyhow::Error::new(error).context("the list cannot be written to standard output");
                return Err(Failure::new(Exit::Lost, error));
            }
            _ => {}
        },
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
    }
    Ok(Exit::Complete)
}

fn nobody(gathered: &Gathered) -> Failure {
    let text = match gathered.services {
        0 => "no service answers".to_owned(),
        count => format!("no streaming endpoint answers (other services: {count})"),
    };
    Failure::text(Exit::NobodyAnswers, text)
        .with_hint("start a responder, such as `natstream serve`; users need permission to subscribe to `$SRV.>`")
}
