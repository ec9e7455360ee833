//! `natstream serve SUBJECT -- CMD`: a process for each request.

use testkit::{unique_subject, within};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{LIMIT, Serving, end, finish, is_gone, natstream, run, until};

async fn shell(script: &str) -> (String, Serving) {
    let subject = unique_subject("cli.command");
    let serving = Serving::start(&subject, ["--", "sh", "-c", script]).await;
    (subject, serving)
}

#[tokio::test]
async fn a_command_gets_the_request() {
    let (subject, _serving) = shell(r#"echo "$NATS_REQUEST_SUBJECT: $NATS_REQUEST_BODY"; cat"#).await;
    let call = run(["call", &subject, "比特 \"$x\""]).await.exits_with(0);
    assert_eq!(call.lines(), [&format!("{subject}: 比特 \"$x\""), "比特 \"$x\""]);
}

#[tokio::test]
async fn a_body_that_cannot_be_a_variable_is_on_standard_input_only() {
    let subject = unique_subject("cli.command");
    let script = r#"echo "${NATS_REQUEST_BODY-none}" | wc -c; wc -c"#;
    let mut serve = natstream(["serve", &subject, "--", "sh", "-c", script]);
    // Not even one that was there before.
    let _serving = Serving::spawn(serve.env("NATS_REQUEST_BODY", "of the parent")).await;
    let body = tempfile::NamedTempFile::new().unwrap();
    for (content, variable) in [
        (b"a\0b".to_vec(), 5),
        (b"\xff".to_vec(), 5),
        (vec![b'x'; 65_537], 5),
        (vec![b'x'; 65_536], 65_537),
        (vec![b'x'; 1_000_000], 5),
    ] {
        std::fs::write(body.path(), &content).unwrap();
        let call = run(["call", &subject, &format!("@{}", body.path().display())])
            .await
            .exits_with(0);
        let numbers: Vec<usize> = call.lines().iter().map(|line| line.trim().parse().unwrap()).collect();
        assert_eq!(numbers, [variable, content.len()], "{} bytes", content.len());
    }
}

#[tokio::test]
async fn a_command_need_not_read_the_request() {
    let (subject, _serving) = shell("exec <&-; echo one; printf two").await;
    let body = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(body.path(), vec![b'x'; 1_000_000]).unwrap();
    let call = run(["call", &subject, &format!("@{}", body.path().display())])
        .await
        .exits_with(0);
    assert_eq!(call.lines(), ["one", "two"], "a last line without a newline is an item");
}

#[tokio::test]
async fn a_failing_command_fails_the_call() {
    let (subject, _serving) = shell("echo item; echo first >&2; echo 出错了：磁盘已满 >&2; echo >&2; exit 3").await;
    let call = run(["call", &subject, "--json"]).await.exits_with(1);
    assert_eq!(call.lines(), ["item"], "what came before the failure arrives");
    let summary = call.summary();
    assert_eq!(summary["code"], "UNKNOWN");
    assert_eq!(summary["message"], "出错了：磁盘已满");
    assert_eq!(summary["details"], "exit status: 3");
    assert_eq!(summary["ended"], "failed");
    assert!(call.stderr.contains("UNKNOWN: 出错了：磁盘已满\n"), "{call:?}");
}

#[tokio::test]
async fn a_command_that_says_nothing_or_too_much_fails_the_call() {
    let (subject, _serving) = shell("exit 7").await;
    let summary = run(["call", &subject, "--json"]).await.exits_with(1).summary();
    assert_eq!(summary["message"], "sh ended with exit status: 7");

    let (subject, _serving) = shell("kill -TERM $$").await;
    let summary = run(["call", &subject, "--json"]).await.exits_with(1).summary();
    assert_eq!(summary["details"], "signal: 15 (SIGTERM)");

    let (subject, _serving) = shell("head -c 10000000 /dev/zero | tr '\\0' x >&2; exit 1").await;
    let summary = run(["call", &subject, "--json"]).await.exits_with(1).summary();
    assert_eq!(summary["message"], "x".repeat(1024));
}

#[tokio::test]
async fn what_holds_standard_error_open_does_not_hold_up_the_end() {
    let subject = unique_subject("cli.command");
    let script = "sleep 1000 >/dev/null & echo $!; echo failed >&2; exit 1";
    let _serving = Serving::start(&subject, ["--", "sh", "-c", script]).await;
    let call = run(["call", &subject, "--json"]).await.exits_with(1);
    assert_eq!(call.summary()["message"], "failed");
    // Left alone: the command ended by itself and wanted it so.
    let pid = call.lines()[0].to_owned();
    assert!(!is_gone(&pid));
    let killed = finish(tokio::process::Command::new("kill").arg(&pid)).await;
    assert_eq!(killed.code, Some(0));
}

#[tokio::test]
async fn a_line_that_is_too_long_fails_the_call_and_ends_the_command() {
    let subject = unique_subject("cli.command");
    let script = "echo $$; exec cat /dev/zero";
    let _serving = Serving::start(&subject, ["--max-item", "1MiB", "--", "sh", "-c", script]).await;
    for max_item in ["16MiB", "64KiB"] {
        let call = run(["call", &subject, "--max-item", max_item, "--json"])
            .await
            .exits_with(1);
        assert_eq!(call.summary()["code"], "RESOURCE_EXHAUSTED", "{call:?}");
        let pid = call.lines()[0].to_owned();
        until("the command has been killed", || is_gone(&pid)).await;
    }
}

#[tokio::test]
async fn calls_run_side_by_side_up_to_the_limit() {
    let subject = unique_subject("cli.command");
    let args = ["--max-concurrent", "2", "--", "sh", "-c", "echo on; exec sleep 1000"];
    let _serving = Serving::start(&subject, args).await;
    let mut calls = Vec::new();
    for _ in 0..2 {
        let mut call = natstream(["call", &subject]).spawn().unwrap();
        let mut stdout = BufReader::new(call.stdout.take().unwrap());
        within(LIMIT, stdout.read_line(&mut String::new())).await.unwrap();
        calls.push((call, stdout));
    }
    let refused = run(["call", &subject, "--json"]).await.exits_with(1);
    assert_eq!(refused.summary()["ended"], "refused");
    assert_eq!(refused.summary()["code"], "RESOURCE_EXHAUSTED");
    for (call, stdout) in calls {
        drop(stdout);
        end(call).await.exits_with(0);
    }
}
