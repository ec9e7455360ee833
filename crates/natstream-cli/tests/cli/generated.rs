//! `natstream completions` and `natstream man`, and output that nobody reads.

use std::process::Stdio;

use tokio::process::Command;

use crate::support::{Run, end, finish, natstream, run};

#[tokio::test]
async fn every_shell_gets_a_script() {
    for (shell, begins) in [
        ("bash", "_natstream() {"),
        ("elvish", "\nuse builtin;"),
        ("fish", "# Print an optspec"),
        ("powershell", "\nusing namespace"),
        ("zsh", "#compdef natstream"),
    ] {
        let script = run(["completions", shell]).await.exits_with(0);
        let text = String::from_utf8(script.stdout).expect("scripts are text");
        assert!(text.starts_with(begins), "{shell}: {text:.80}");
        assert!(text.contains("idle-timeout"), "{shell} has no option");
        assert_eq!(script.stderr, "");
    }
    run(["completions", "tcsh"]).await.exits_with(2);
    run(["completions"]).await.exits_with(2);
}

/// What bash offers for the last of these words.
async fn offers(script: &std::path::Path, words: &[&str]) -> Vec<String> {
    let line = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                _natstream natstream \"${COMP_WORDS[$COMP_CWORD]}\" \"${COMP_WORDS[$COMP_CWORD - 1]}\"; \
                printf '%s\\n' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", line, "bash"]).arg(script).args(words);
    let offered = finish(&mut bash).await.exits_with(0);
    offered.lines().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn bash_completes_commands_options_and_values() {
    let script = tempfile::NamedTempFile::new().expect("there is room for a file");
    let bash = run(["completions", "bash"]).await.exits_with(0);
    std::fs::write(script.path(), &bash.stdout).expect("the file can be written");
    assert_eq!(offers(script.path(), &["natstream", "comp"]).await, ["completions"]);
    let consume = offers(script.path(), &["natstream", "bus", "consume", "--dur"]).await;
    assert_eq!(consume, ["--durable"]);
    let forms = offers(script.path(), &["natstream", "record", "--compress", ""]).await;
    assert_eq!(forms, ["none", "gzip", "zstd"]);
}

#[tokio::test]
async fn every_command_has_its_manual_page() {
    let dir = tempfile::tempdir().expect("there is room for a directory");
    let pages = dir.path().join("share/man1");
    for _ in 0..2 {
        let mut command = natstream(["man"]);
        finish(command.arg(&pages)).await.exits_with(0);
    }
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).expect("the page is there");
    assert!(page("natstream.1").contains("natstream\\-bus(1)"));
    assert!(page("natstream-bus-stream-add.1").contains("\\-\\-subjects"));
    // As many as there are commands.
    let interface = include_str!("../../src/cli/interface.txt");
    let commands = interface.lines().filter(|line| line.starts_with("natstream")).count();
    assert_eq!(std::fs::read_dir(&pages).expect("it is there").count(), commands);

    let main = run(["man"]).await.exits_with(0);
    assert_eq!(
        String::from_utf8(main.stdout).expect("pages are text"),
        page("natstream.1")
    );
    // A file is no directory.
    let mut command = natstream(["man"]);
    let refused = finish(command.arg(pages.join("natstream.1"))).await.exits_with(5);
    assert!(refused.stderr.starts_with("error: "), "{refused:?}");
}

/// The program with this standard output, to its end. (`Command::output` takes standard output for itself.)
async fn into(stdout: Stdio, args: &[&str]) -> Run {
    let mut command = natstream(args);
    end(command.stdout(stdout).spawn().expect("the program starts")).await
}

#[tokio::test]
async fn a_closed_output_is_no_error_and_a_full_disk_is() {
    for args in [
        &["completions", "bash"][..],
        &["man"],
        &["--help"],
        &["bus", "consume", "--help"],
        &["--version"],
        &["config", "show"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let run = into(writer.into(), args).await.exits_with(0);
        assert_eq!(run.stderr, "", "{args:?}");
    }
    for args in [&["completions", "zsh"][..], &["man"], &["config", "show"]] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let run = into(full.expect("Linux has one").into(), args).await.exits_with(5);
        assert!(run.stderr.starts_with("error: "), "{run:?}");
    }
}
