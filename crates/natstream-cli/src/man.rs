//! `natstream man`: the help as manual pages.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use tokio::fs;

use crate::cli::Cli;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLES: &str = "\
Examples:
  natstream man | man -l -
  natstream man /usr/local/share/man/man1";

/// Print the manual page of the program, or write those of all commands into a directory.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// The directory; it is made. Pages that are there are replaced [default: one page, to standard output].
    dir: Option<PathBuf>,
}

/// Runs the command.
pub(crate) async fn run(args: ManArgs, console: Console) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    // Names of pages are those of all commands above.
    command.build();
    let Some(dir) = args.dir else {
        output::print(&render(command).1).await?;
        return Ok(Exit::Complete);
    };
    let mut pages = Vec::new();
    collect(command, &mut pages);
    write(&dir, &pages)
        .await
        .with_context(|| format!("the pages cannot be written to {}", dir.display()))
        .map_err(|error| Failure::new(Exit::Lost, error))?;
    console.progress(&format!("{} pages in {}", pages.len(), dir.display()));
    Ok(Exit::Complete)
}

/// The pages of a command and of all below it.
fn collect(command: Command, pages: &mut Vec<(String, Vec<u8>)>) {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        collect(command.clone(), pages);
    }
    pages.push(render(command));
}

/// The name of a page, and the page.
fn render(command: Command) -> (String, Vec<u8>) {
    let mut text = Vec::new();
    let page = Man::new(command).source(concat!("natstream ", env!("CARGO_PKG_VERSION")));
    page.render(&mut text).expect("memory can be written to");
    (page.get_filename(), text)
}

async fn write(dir: &Path, pages: &[(String, Vec<u8>)]) -> io::Result<()> {
    fs::create_dir_all(dir).await?;
    for (name, text) in pages {
        fs::write(dir.join(name), text).await?;
    }
    Ok(())
}
