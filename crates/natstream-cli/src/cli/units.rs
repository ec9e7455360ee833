//! The units of `packaging/systemd` start this program as it is, and leave it the time that it takes to end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command as Process;
use std::time::Duration;

use super::{Cli, Command, shell};

/// What ending takes beyond the drain: children, messages on their way, and the connection.
const REST: Duration = Duration::from_secs(10);

fn directory() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../packaging/systemd"].iter().collect()
}

/// The `KEY=VALUE` lines of a file; of a key that is repeated, the last.
fn settings(name: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(directory().join(name)).expect("it is there");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The command line of a unit, with what systemd puts in for the instance and for a variable.
fn command_line(unit: &BTreeMap<String, String>, instance: &str, variable: &str, file: &str) -> Cli {
    let value = &settings(file)[variable];
    let line = unit["ExecStart"]
        .replace("%i", instance)
        .replace(&format!("${variable}"), value);
    let line = line.strip_prefix("/usr/local/bin/").expect("the program's place");
    assert!(!line.contains(['$', '%']), "{line}");
    let commands = shell::own_commands(line);
    assert_eq!(commands.len(), 1, "systemd has no pipes: {line}");
    let read = Cli::read(commands[0].iter().map(OsString::from));
    read.unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn timeout(unit: &BTreeMap<String, String>) -> Duration {
    humantime::parse_duration(&unit["TimeoutStopSec"]).expect("a length of time")
}

/// What both units must say for an orderly end.
fn ends_in_order(unit: &BTreeMap<String, String>) {
    assert_eq!(unit["Type"], "exec");
    assert_eq!(unit["KillSignal"], "SIGTERM");
    // SIGTERM to the program alone: its commands may end what they do.
    assert_eq!(unit["KillMode"], "mixed");
    assert_eq!(unit["Restart"], "on-failure");
    // The exit code for mistakes of the command line.
    assert_eq!(unit["RestartPreventExitStatus"], "2");
}

#[test]
fn the_unit_of_record_is_read() {
    let unit = settings("natstream-record@.service");
    let cli = command_line(&unit, "orders", "RECORD_ARGS", "record-orders.env");
    assert!(matches!(cli.command, Command::Record(_)));
    ends_in_order(&unit);
    assert!(timeout(&unit) >= crate::record::END + REST);
    // What the unit may write is where it writes.
    assert!(unit["ExecStart"].contains("--dir /var/lib/natstream/%i "));
    assert!(unit["StateDirectory"].ends_with(" natstream/%i"));
}

#[test]
fn the_unit_of_serve_is_read_and_has_time_to_drain() {
    let unit = settings("natstream-serve@.service");
    let cli = command_line(&unit, "search", "SERVE_ARGS", "serve-search.env");
    let Command::Serve(args) = cli.command else {
        panic!("it is not `serve`")
    };
    ends_in_order(&unit);
    assert!(timeout(&unit) >= args.drain() + REST);
}

#[test]
fn variables_of_the_connection_are_known() {
    for name in settings("nats.env").keys() {
        let is_named = include_str!("../options.rs").contains(name.as_str());
        assert!(is_named, "the help of no option names {name}");
    }
}

#[test]
fn systemd_reads_the_units() {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    for (unit, instance) in [("natstream-record", "orders"), ("natstream-serve", "search")] {
        let text = fs::read_to_string(directory().join(format!("{unit}@.service"))).expect("it is there");
        // It must be a program that is there.
        let text = text.replace("/usr/local/bin/natstream", "/bin/sh");
        let file = dir.path().join(format!("{unit}@{instance}.service"));
        fs::write(&file, text).expect("the file can be written");
        let mut verify = Process::new("systemd-analyze");
        let Ok(output) = verify.args(["verify", "--man=no"]).arg(&file).output() else {
            // A machine without systemd; the other tests are for it, too.
            return;
        };
        // It also speaks of units of the machine.
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<_> = said.lines().filter(|line| line.contains("natstream")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}
