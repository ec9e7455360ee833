//! From the command line to the exit code.

use std::ffi::OsString;
use std::io::{IsTerminal as _, stderr};
use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupts;
use crate::options::ConnectionSettings;
use crate::{
    bench, bus, call, completions, config, doctor, kv, logging, ls, man, object, publish, record, replay, request,
    serve, subscribe, top,
};

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) connection: ConnectionSettings,
    pub(crate) console: Console,
    pub(crate) interrupts: Interrupts,
}

/// Runs the program with these arguments, the first of which is its name; returns the exit code.
///
/// It takes over signals and logging of the process, and prints everything that there is to say.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::read(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody may be reading.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Complete
            }
            .into();
        }
    };
    let console = Console::new(cli.display.quiet, cli.display.json);
    // What is logged would stand in the middle of the screen.
    let has_screen = matches!(cli.command, Command::Top(_)) && stderr().is_terminal();
    logging::start(
        cli.display.verbose,
        cli.display.quiet || has_screen,
        cli.display.log_format,
    );
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = anyhow::Error::new(error).context("the threads of the program cannot be started");
            console.failure(&Failure::new(Exit::Failed, error));
            return Exit::Failed.into();
        }
    };
    let outcome = runtime.block_on(run(cli, console));
    // A thread may wait for standard input or output for ever.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            console.failure(&failure);
            failure.exit.into()
        }
    }
}

async fn run(cli: Cli, console: Console) -> Result<Exit, Failure> {
    // Not before a command needs it: a configuration that is wrong is what `config` is for.
    let context = || {
        Ok::<_, Failure>(Context {
            connection: cli.connection.load()?,
            console,
            interrupts: Interrupts::new()?,
        })
    };
    match cli.command {
        Command::Bench(args) => bench::run(context()?, args).await,
        Command::Bus(args) => bus::run(context()?, args).await,
        Command::Call(args) => call::run(context()?, args).await,
        Command::Completions(args) => completions::run(args).await,
        Command::Config(args) => config::run(&cli.connection, args, console).await,
        Command::Doctor(args) => doctor::run(context()?, args).await,
        Command::Kv(args) => kv::run(context()?, args).await,
        Command::Ls(args) => ls::run(context()?, args).await,
        Command::Man(args) => man::run(args, console).await,
        Command::Object(args) => object::run(context()?, args).await,
        Command::Pub(args) => publish::run(context()?, args).await,
        Command::Record(args) => record::run(context, args, console).await,
        Command::Replay(args) => replay::run(context()?, args).await,
        Command::Request(args) => request::run(context()?, args).await,
        Command::Serve(args) => serve::run(context()?, args).await,
        Command::Sub(args) => subscribe::run(context()?, args).await,
        Command::Top(args) => top::run(context()?, args).await,
    }
}
