//! The command line.

#[cfg(test)]
mod examples;
#[cfg(test)]
mod interface;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod shell;
#[cfg(test)]
mod units;

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::bus::BusArgs;
use crate::call::CallArgs;
use crate::completions::CompletionsArgs;
use crate::config::ConfigArgs;
use crate::doctor::DoctorArgs;
use crate::kv::KvArgs;
use crate::logging::LogFormat;
use crate::ls::LsArgs;
use crate::man::ManArgs;
use crate::object::ObjectArgs;
use crate::options::ConnectionOptions;
use crate::publish::PubArgs;
use crate::record::RecordArgs;
use crate::replay::ReplayArgs;
use crate::request::RequestArgs;
use crate::serve::ServeArgs;
use crate::subscribe::SubArgs;
use crate::top::TopArgs;

const EXAMPLES: &str = "\
Examples:
  natstream serve clock --count 10 --interval 1s &
  natstream call clock

Exit codes: 0 complete, 1 the other side failed, 2 usage, 3 nobody answers, 4 a clock ran out, 5 data lost or the answer \
cut short, 6 no connection, 7 not permitted, 8 not everything was delivered or recorded, 130 interrupted.";

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
    Bench(BenchArgs),
    Bus(BusArgs),
    Call(CallArgs),
    Completions(CompletionsArgs),
    Config(ConfigArgs),
    Doctor(DoctorArgs),
    Kv(KvArgs),
    Ls(LsArgs),
    Man(ManArgs),
    Object(ObjectArgs),
    Pub(PubArgs),
    Record(RecordArgs),
    Replay(ReplayArgs),
    Request(RequestArgs),
    Serve(ServeArgs),
    Sub(SubArgs),
    Top(TopArgs),
}

impl Cli {
    /// Reads a command line.
    pub(crate) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(args)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
