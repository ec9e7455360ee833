//! `natstream doctor`: what is wrong between us and our peers, and which line of configuration mends it.

mod ask;
mod consul;
mod finding;
mod jetstream;
mod permissions;
mod probe;
mod report;
mod server;
mod subject;
mod user;

use std::time::Duration;

use clap::Args;
use natstream::Connection;
use natstream::connect::check_publish_subject;

use self::ask::{Inbox, Opened};
use self::finding::Finding;
use self::report::Report;
use self::server::Facts;
use self::user::{Abilities, Answer, allow};
use crate::exit::{Exit, Failure};
use crate::options::ConnectionSettings;
use crate::program::Context;
use crate::session;

const EXAMPLES: &str = "\
Examples:
  natstream doctor
  natstream doctor orders.search --json | jq 'select(.level == \"wrong\")'

Each finding is a line on standard output: ok, info, warning or wrong, what was looked at, and what was found; below it stand \
the lines of configuration that mend it. The exit code is 0 when nothing is wrong, and 1 otherwise; warnings are not wrong. \
Each wait takes --timeout at most.

With a subject, the program behind it is asked for a test answer, for which natstream runs no handler. A program that is not \
natstream takes the test for a request with an empty body.";

/// How often a message goes there and back.
const ROUND_TRIPS: usize = 5;

/// Find out what is wrong with the connection, the permissions of this user and JetStream, and say what mends it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// A subject to look at, too: may this user call and serve it, and does it answer with whole streams?
    subject: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: DoctorArgs) -> Result<Exit, Failure> {
    let subject = args.subject.as_deref();
    if let Some(subject) = subject {
        check_publish_subject(subject).map_err(|error| Failure::subject(subject, error))?;
        if subject.starts_with('$') {
            return Err(Failure::usage(format!(
                "`{subject}` is one of nats-server's own subjects, where a test could do harm"
            )));
        }
    }
    let connection = session::connect(&context.connection, "natstream doctor", &mut context.interrupts).await?;
    let mut report = Report::new(context.console.is_json());
    let facts = Facts::of(&connection, context.connection.demands_tls());
    let outcome = tokio::select! {
        outcome = examine(&connection, &facts, subject, &context.connection, &mut report) => outcome,
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    session::leave(&connection, &mut context.interrupts).await;
    outcome?;
    if report.is_wrong() {
        if context.console.is_json() {
            context.console.summary(|| report.text(), || report.json());
        }
        return Err(Failure::text(Exit::Failed, report.text()));
    }
    context.console.summary(|| report.text(), || report.json());
    Ok(Exit::Complete)
}

/// Looks at everything, one after the other: the findings are printed as they come.
async fn examine(
    connection: &Connection,
    facts: &Facts,
    subject: Option<&str>,
    settings: &ConnectionSettings,
    report: &mut Report,
) -> Result<(), Failure> {
    let limit = settings.timeout;
    report.tell(facts.findings()).await?;
    if let Some((config, service)) = settings.consul() {
        report.tell([consul::check(config, service, connection).await]).await?;
    }
    report.tell([round_trip(connection, limit).await]).await?;
    let abilities = match Inbox::open(connection, limit).await {
        Opened::Works(mut inbox) => {
            let text = format!("answers arrive below `{}`", connection.inbox_prefix());
            report.tell([Finding::ok("inbox", text)]).await?;
            let abilities = user(&mut inbox, connection.inbox_prefix(), subject, report).await?;
            report.tell(jetstream::check(&mut inbox).await).await?;
            Some(abilities)
        }
        failed => {
            report.tell(no_inbox(connection.inbox_prefix(), &failed)).await?;
            None
        }
    };
    let Some(subject) = subject else {
        return Ok(());
    };
    let finding = match abilities {
        Some(abilities) if abilities.may_call() => {
            probe::check(connection, subject, abilities.leaves_credit_open(), limit).await
        }
        _ => Finding::info("answer", format!("`{subject}` was not asked: this user cannot call it")),
    };
    report.tell([finding]).await
}

/// Tells who we are and what we may do.
async fn user(
    inbox: &mut Inbox,
    prefix: &str,
    subject: Option<&str>,
    report: &mut Report,
) -> Result<Abilities, Failure> {
    let (finding, abilities) = match user::ask(inbox).await {
        Answer::User(user) => (user.finding(), user.abilities(prefix, subject)),
        Answer::Unknown(finding) => (finding, user::try_out(inbox, prefix).await),
    };
    report.tell([finding]).await?;
    report.tell(abilities.findings(subject)).await?;
    Ok(abilities)
}

async fn round_trip(connection: &Connection, limit: Duration) -> Finding {
    let mut trips = Vec::new();
    while trips.len() < ROUND_TRIPS {
        match connection.fence(limit).await {
            Ok(trip) => trips.push(trip),
            Err(error) => return Finding::wrong("round_trip", error.to_string()),
        }
    }
    server::round_trip(trips)
}

/// Without an inbox no answer arrives, and nothing can be asked.
fn no_inbox(prefix: &str, opened: &Opened) -> [Finding; 2] {
    let inbox = match opened {
        Opened::Denied(subject) => Finding::wrong(
            "inbox",
            format!(
                "this user may not subscribe to `{subject}`: no answer can arrive, and no credit for its own answers"
            ),
        )
        .with_fix(allow("subscribe", &[&format!("{prefix}.>")]))
        .and_fix("or, with a prefix that it may subscribe to: --inbox-prefix PREFIX"),
        _ => Finding::wrong(
            "inbox",
            format!("a message to the own inbox below `{prefix}` does not arrive"),
        ),
    };
    let rest = "the server could not be asked for the permissions of this user, nor about JetStream";
    [inbox, Finding::info("user", rest)]
}
