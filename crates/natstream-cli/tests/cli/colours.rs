//! Colours are for terminals, and only where they are wanted.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use testkit::within;
use tokio::process::Command;

use crate::support::{LIMIT, finish, natstream};

/// A terminal: its screen, and its end for programs.
fn terminal() -> (File, OwnedFd) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&screen).expect("it is ours");
    unlockpt(&screen).expect("it is ours");
    let name = ptsname(&screen, Vec::new()).expect("it has a name");
    let end = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("it can be opened");
    (screen.into(), end)
}

/// The program, without what says whether there are colours.
fn program(args: &[&str]) -> Command {
    let mut command = natstream(args);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm-256color");
    command
}

/// What the program shows on a terminal.
async fn shown(mut command: Command) -> String {
    let (mut screen, end) = terminal();
    command.stdout(end.try_clone().expect("a descriptor")).stderr(end);
    let mut child = command.spawn().expect("the program starts");
    // Its copies of the terminal: without them reading ends with the program.
    drop(command);
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        // Linux says with an error that the other end is closed.
        let _ = screen.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    within(LIMIT, child.wait()).await.expect("it can be waited for");
    within(LIMIT, reading).await.expect("the screen can be read")
}

#[tokio::test]
async fn colours_are_for_terminals_that_want_them() {
    // The help, a mistake in the command line, and a line of the log.
    for (args, variables) in [
        (&["--help"][..], &[][..]),
        (&["call"], &[]),
        (&["config", "show"], &[("NATSTREAM_PASWORD", "x")]),
    ] {
        let program = |more: &[(&str, &str)]| {
            let mut command = program(args);
            command.envs(variables.iter().copied()).envs(more.iter().copied());
            command
        };
        let coloured = shown(program(&[])).await;
        assert!(coloured.contains("\u{1b}["), "{args:?}: {coloured}");
        for off in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let plain = shown(program(&[off])).await;
            assert!(
                !plain.is_empty() && !plain.contains('\u{1b}'),
                "{args:?}, {off:?}: {plain:?}"
            );
        }
        // Empty is as not set.
        assert!(
            shown(program(&[("NO_COLOR", "")])).await.contains("\u{1b}["),
            "{args:?}"
        );
        let piped = finish(&mut program(&[])).await;
        let text = String::from_utf8_lossy(&piped.stdout).into_owned() + &piped.stderr;
        assert!(!text.is_empty() && !text.contains('\u{1b}'), "{args:?}: {text:?}");
    }
}

#[tokio::test]
async fn a_failure_on_a_terminal_is_plain() {
    let mut command = program(&["call", "a", "-s", "nats://127.0.0.1:1"]);
    command.env("NO_COLOR", "1");
    let text = shown(command).await;
    assert!(text.contains("error: ") && !text.contains('\u{1b}'), "{text:?}");
}
