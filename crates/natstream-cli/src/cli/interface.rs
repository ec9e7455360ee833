//! Commands and options are a stable interface: `interface.txt` has all of them, so that no change goes unseen.

use std::fs;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::Cli;

const FILE: &str = "src/cli/interface.txt";

/// An option or argument, in a line.
fn argument(arg: &Arg) -> String {
    let mut line = arg.to_string();
    if let (Some(short), true) = (arg.get_short(), arg.get_long().is_some()) {
        line = format!("-{short}, {line}");
    }
    if arg.is_required_set() && !arg.is_positional() {
        line += " (required)";
    }
    let repeats = matches!(arg.get_action(), ArgAction::Append | ArgAction::Count);
    if repeats && !arg.is_positional() {
        line += " (repeats)";
    }
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        line += &format!(" [default: {}]", defaults.join(" "));
    }
    let values: Vec<_> = arg.get_possible_values();
    let names: Vec<_> = values.iter().map(|value| value.get_name()).collect();
    if arg.get_action().takes_values() && !names.is_empty() {
        line += &format!(" [{}]", names.join("|"));
    }
    line
}

fn describe(command: &Command, path: &str, is_root: bool, text: &mut String) {
    *text += path;
    *text += "\n";
    for arg in command.get_arguments().filter(|arg| is_root || !arg.is_global_set()) {
        *text += &format!("  {}\n", argument(arg));
    }
    for command in command.get_subcommands() {
        describe(command, &format!("{path} {}", command.get_name()), false, text);
    }
}

/// The lines, each with its command.
fn lines(text: &str) -> Vec<String> {
    let mut command = "";
    let with_command = text.lines().map(|line| match line.strip_prefix("  ") {
        Some(argument) => format!("{command}: {argument}"),
        None => {
            command = line;
            line.to_owned()
        }
    });
    with_command.collect()
}

/// Those of `text` that `other` has not.
fn missing(text: &str, other: &str, sign: &str) -> String {
    let other = lines(other);
    let gone = lines(text).into_iter().filter(|line| !other.contains(line));
    gone.map(|line| format!("{sign} {line}\n")).collect()
}

#[test]
fn what_differs_is_told_with_its_command() {
    let before = "a\n  --x <N>\na b\n  --x <N>\n";
    let now = "a\n  --x <N>\na b\n  --y\n";
    assert_eq!(missing(before, now, "-"), "- a b: --x <N>\n");
    assert_eq!(missing(now, before, "+"), "+ a b: --y\n");
}

#[test]
fn commands_and_options_are_those_of_interface_txt() {
    let mut now =
        "All commands and options. Made by the test in interface.rs, which says how to renew it.\n\n".to_owned();
    let mut command = Cli::command();
    // What stands for a value is known then.
    command.build();
    describe(&command, "natstream", true, &mut now);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("RENEW_INTERFACE").is_some() {
        fs::write(&file, &now).expect("the file can be written");
        return;
    }
    let before = fs::read_to_string(&file).expect("the file is there");
    assert!(
        before == now,
        "commands or options have changed:\n{}{}\nScripts depend on them: what is gone or means something else breaks \
         those. If it is meant, say it in CHANGELOG.md, and renew the list with\n  \
         RENEW_INTERFACE=1 cargo test -p natstream-cli --lib interface",
        missing(&before, &now, "-"),
        missing(&now, &before, "+"),
    );
}
