//! `natstream top`: the streaming endpoints on this NATS, as they work.

mod draw;
mod screen;
mod view;

use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use clap::Args;
use natstream::{Connection, ConnectionStatus};
use tokio::time::sleep;

use self::screen::{Keys, Screen};
use self::view::{Action, View};
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::services::{self, Gathered, Patience};
use crate::session::{self, Refusals};

const EXAMPLES: &str = "\
Examples:
  natstream top
  natstream top --interval 5s

Keys: q, Esc or Ctrl-C ends. n, a, i, b, f and s sort: by name, active calls, items/s, bytes/s, failed calls, stalled time. \
The arrows scroll.

Columns that do not fit into the terminal are left out. FOREIGN are calls of programs that know nothing of natstream, DENIED \
those whose answers nats-server did not let through; both are there only where there are some. RESENT are messages that were sent again, STALLED is how long senders \
waited for callers to read, AVERAGE how long a call lasts.";

/// Shorter intervals show nothing: answers are waited for.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Watch the streaming endpoints on this NATS, with their rates, in the terminal.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    /// Ask so often, at least 100ms.
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = interval)]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        interval if interval < MIN_INTERVAL => Err("the interval is shorter than 100ms".to_owned()),
        interval => Ok(interval),
    }
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: TopArgs) -> Result<Exit, Failure> {
    if !stdout().is_terminal() {
        return Err(Failure::usage("top needs a terminal").with_hint("`natstream ls --json` is for programs"));
    }
    let connection = session::connect(&context.connection, "natstream top", &mut context.interrupts).await?;
    let outcome = watch(&mut context, &connection, args.interval).await;
    session::leave(&connection, &mut context.interrupts).await;
    outcome
}

/// Shows what there is until it is told to end.
async fn watch(context: &mut Context, connection: &Connection, interval: Duration) -> Result<Exit, Failure> {
    let mut refusals = Refusals::of(connection);
    let mut screen = Screen::open()?;
    let mut keys = Keys::read();
    let mut view = View::new(connection.server_url().unwrap_or_default(), interval);
    let mut round = Box::pin(ask(connection, Duration::ZERO, interval));
    loop {
        view.is_connected = connection.state().borrow().status == ConnectionStatus::Connected;
        screen.draw(|frame| draw::draw(frame, &mut view))?;
        tokio::select! {
            biased;
            signal = context.interrupts.next() => return Err(session::interrupted(signal)),
            refusal = refusals.next() => return Err(refusal.into_failure()),
            event = keys.next() => match view.handle(&event?) {
                Action::Quit => return Ok(Exit::Complete),
                Action::Draw => {}
            },
            gathered = round.as_mut() => {
                // It may have gone while the answers were waited for: then there are none for that reason.
                view.is_connected = connection.state().borrow().status == ConnectionStatus::Connected;
                view.update(gathered?);
                round.set(ask(connection, interval, interval));
            }
        }
    }
}

/// Waits, and asks; both together take the interval if the answers come soon.
async fn ask(connection: &Connection, pause: Duration, interval: Duration) -> Result<Gathered, Failure> {
    let patience = Patience {
        // A screen that stands still for longer seems to hang.
        total: Patience::LIST.total.min(interval.max(Patience::LIST.quiet)),
        quiet: Patience::LIST.quiet.min(interval / 2),
    };
    sleep(pause.saturating_sub(patience.quiet)).await;
    services::gather(connection, patience).await
}
