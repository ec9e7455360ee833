//! The command line.

use std::ffi::OsString;

use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::call::CallArgs;
use crate::doctor::DoctorArgs;
use crate::logging::LogFormat;
use crate::ls::LsArgs;
use crate::options::ConnectionOptions;
use crate::serve::ServeArgs;
use crate::top::TopArgs;

const EXAMPLES: &str = "\
Examples:
  natstream serve clock --count 10 --interval 1s &
  natstream call clock

Exit codes: 0 complete, 1 the other side failed, 2 usage, 3 nobody answers, 4 a clock ran out, 5 data lost or the answer \
cut short, 6 no connection, 7 not permitted, 130 interrupted.";

/// Streaming calls over NATS: items arrive in order, each once, and then exactly one verdict.
///
/// Standard output carries data only; summaries, logs and errors go to standard error.
#[derive(Debug, Parser)]
#[command(
    name = "natstream",
    version,
    after_help = EXAMPLES,
    disable_help_flag = true,
    disable_help_subcommand = true,
    max_term_width = 120
)]
pub(crate) struct Cli {
    /// Print help.
    // Not clap's own: its `--help` spends three lines on each option.
    #[arg(short, long, action = clap::ArgAction::HelpShort, global = true)]
    help: Option<bool>,
    #[command(flatten)]
    pub(crate) connection: ConnectionOptions,
    #[command(flatten)]
    pub(crate) display: DisplayOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is said, and how.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct DisplayOptions {
    /// Say nothing but errors on standard error.
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    /// Summaries and listings as one JSON object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more: -v info, -vv debug, -vvv trace.
    #[arg(short, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// The form of log lines.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, global = true)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Call(CallArgs),
    Doctor(DoctorArgs),
    Ls(LsArgs),
    Serve(ServeArgs),
    Top(TopArgs),
}

impl Cli {
    /// Reads a command line, and the environment for the options that are not on it.
    pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = without_empty_variables(Self::command());
        let matches = command.try_get_matches_from_mut(args)?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        cli.connection.settle(innermost(&matches));
        Ok(cli)
    }
}

/// An empty environment variable counts as one that is not set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| {
        let is_empty = arg
            .get_env()
            .and_then(std::env::var_os)
            .is_some_and(|value| value.is_empty());
        if is_empty { arg.env(None::<&str>) } else { arg }
    })
}

/// The matches of the command itself: those know where a global option came from.
fn innermost(mut matches: &ArgMatches) -> &ArgMatches {
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    matches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
