//! `natstream completions`: what a shell needs to complete commands and options.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLES: &str = "\
Examples:
  natstream completions bash > ~/.local/share/bash-completion/completions/natstream
  natstream completions zsh > ~/.zfunc/_natstream   # with ~/.zfunc in fpath
  natstream completions fish > ~/.config/fish/completions/natstream.fish";

/// Print the script with which a shell completes commands and options.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub(crate) async fn run(args: CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "natstream", &mut script);
    output::print(&script).await?;
    Ok(Exit::Complete)
}
