//! Every command has examples, and they are commands of this program.

use std::ffi::OsString;

use clap::{Command, CommandFactory as _};

use super::{Cli, shell};

/// The lines of the part "Examples" of a command's help.
fn examples(help: &str) -> Vec<&str> {
    let part = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    part.take_while(|line| !line.is_empty()).collect()
}

fn visit(command: &Command, path: &str) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let examples = examples(&help);
    assert!(
        !examples.is_empty(),
        "`{path}` has no examples: give it `#[command(after_help = …)]` with a part \"Examples:\""
    );
    let mut is_shown = false;
    for line in examples {
        let commands = shell::own_commands(line);
        assert!(
            line.starts_with("  ") && !commands.is_empty(),
            "`{path}`: no command in {line:?}"
        );
        for words in commands {
            let is_this = words.join(" ") + " ";
            // Options of the connection may stand before the command.
            is_shown |= path.split(' ').all(|name| is_this.contains(&format!("{name} ")));
            if let Err(error) = Cli::read(words.iter().map(OsString::from)) {
                panic!("`{path}`: {line:?}: {error}");
            }
        }
    }
    assert!(is_shown, "no example of `{path}` shows it");
    for command in command.get_subcommands() {
        visit(command, &format!("{path} {}", command.get_name()));
    }
}

#[test]
fn every_command_has_examples_that_are_read() {
    visit(&Cli::command(), "natstream");
}
