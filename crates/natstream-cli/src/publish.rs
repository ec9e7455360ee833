//! `natstream pub`: publish a message.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use natstream::connect::{Operation, check_publish_subject};
use natstream::{Connection, FenceError, FenceErrorKind, Pool};
use serde_json::json;
use tokio::time::timeout;

use crate::content::Content;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::session::{self, Refusals};
use crate::size;

const EXAMPLES: &str = "\
Examples:
  natstream pub events.user.created '{\"user_id\":\"123\"}'
  natstream pub work.tasks @task.json -H Priority:high --count 100

Exit code 0 says that nats-server has the messages, not that anybody was subscribed.";

/// How long a refusal may take after nats-server has confirmed that it has processed the messages.
pub(crate) const REFUSAL_GRACE: Duration = Duration::from_millis(10);

/// Publish a message to whoever is subscribed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, override_usage = "natstream pub [OPTIONS] <SUBJECT> [DATA | @FILE | -]")]
pub(crate) struct PubArgs {
    /// Where to publish.
    subject: String,
    #[command(flatten)]
    content: Content,
    /// Subject that responses go to, for somebody who is subscribed to it.
    #[arg(long, value_name = "SUBJECT")]
    reply: Option<String>,
    /// Publish the same message so often.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: PubArgs) -> Result<Exit, Failure> {
    for subject in [Some(&args.subject), args.reply.as_ref()].into_iter().flatten() {
        check_publish_subject(subject).map_err(|error| Failure::subject(subject, error))?;
    }
    let payload = tokio::select! {
        payload = args.content.read() => payload?,
        signal = context.interrupts.next() => return Err(session::interrupted(signal)),
    };
    let size = payload.len() as u64;
    let connection = session::connect(&context.connection, "natstream pub", &mut context.interrupts).await?;
    let outcome = tokio::select! {
        outcome = publish(&connection, &args, payload, context.connection.timeout) => outcome,
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    session::leave(&connection, &mut context.interrupts).await;
    outcome?;
    let bytes = size.saturating_mul(args.count);
    context.console.summary(
        || format!("published: {} messages, {}", args.count, size::display(bytes as f64)),
        || json!({"messages": args.count, "bytes": bytes}),
    );
    Ok(Exit::Complete)
}

/// Publishes, and waits until nats-server has it and has not refused it.
async fn publish(connection: &Connection, args: &PubArgs, payload: Bytes, limit: Duration) -> Result<(), Failure> {
    let mut refusals = Refusals::of(connection);
    let pool = Pool::new(connection.clone());
    for _ in 0..args.count {
        let mut message = pool.publish(&args.subject, payload.clone()).connect_timeout(limit);
        for (name, value) in args.content.headers() {
            message = message.header(name, value);
        }
        if let Some(reply) = &args.reply {
            message = message.reply_to(reply);
        }
        message.send().await?;
    }
    pool.flush(limit).await.map_err(unconfirmed)?;
    let refused = async {
        loop {
            let refusal = refusals.next().await;
            if refusal.operation == Operation::Publish && refusal.subject == args.subject {
                return refusal;
            }
        }
    };
    // A refusal has come before that confirmation, but a task of async-nats passes it on, which may not have had its turn.
    match timeout(REFUSAL_GRACE, refused).await {
        Ok(refusal) => Err(refusal.into_failure()),
        Err(_) => Ok(()),
    }
}

pub(crate) fn unconfirmed(error: FenceError) -> Failure {
    let exit = match error.kind() {
        FenceErrorKind::Timeout => Exit::ClockRanOut,
        _ => Exit::Lost,
    };
    let hint = "some messages may have arrived; publish them again only if twice does no harm";
    Failure::new(exit, error).with_hint(hint)
}
