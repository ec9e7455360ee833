//! `natstream call`: what is printed, and how a call ends.

use std::process::Stdio;

use rustix::process::Signal;
use testkit::{unique_subject, within};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::support::{LIMIT, Serving, end, is_gone, natstream, run, signal, until};

/// What `serve --count --size` gives, as `call` prints it.
fn generated(count: u64, size: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for number in 0..count {
        text.extend(format!("{number:.<size$}\n").into_bytes());
    }
    text
}

#[tokio::test]
async fn every_item_arrives_once_in_order() {
    let subject = unique_subject("cli.call");
    let serving = Serving::start(&subject, ["--count", "200000", "--size", "128"]).await;
    let call = run(["call", &subject, "--json"]).await.exits_with(0);
    assert!(
        call.stdout == generated(200_000, 128),
        "{} bytes arrived",
        call.stdout.len()
    );
    let summary = call.summary();
    assert_eq!(summary["items"], 200_000);
    assert_eq!(summary["bytes"], 200_000 * 128);
    assert_eq!(summary["ended"], "complete");
    assert_eq!(summary["reconnects"], 0);
    assert!(summary["first_item_ms"].as_f64() <= summary["duration_ms"].as_f64());
    serving.stop().await.exits_with(0);
}

#[tokio::test]
async fn a_reader_that_stops_for_a_while_loses_nothing() {
    let subject = unique_subject("cli.call");
    let _serving = Serving::start(&subject, ["--count", "200000", "--size", "128"]).await;
    let mut call = natstream(["call", &subject, "--quiet"]).spawn().unwrap();
    let mut stdout = BufReader::new(call.stdout.take().unwrap());
    let mut text = Vec::new();
    within(LIMIT, stdout.read_until(b'\n', &mut text)).await.unwrap();

    // Until nothing moves any more: the program has filled all there is to fill.
    let io = format!("/proc/{}/io", call.id().unwrap());
    let mut last = String::new();
    let mut still = 0;
    until("the program waits for its reader", || {
        let now = std::fs::read_to_string(&io).unwrap();
        still = if now == last { still + 1 } else { 0 };
        last = now;
        still == 30
    })
    .await;

    within(LIMIT, stdout.read_to_end(&mut text)).await.unwrap();
    assert!(text == generated(200_000, 128), "{} bytes arrived", text.len());
    end(call).await.exits_with(0);
}

#[tokio::test]
async fn an_item_is_shown_while_the_next_is_awaited() {
    let subject = unique_subject("cli.call");
    let _serving = Serving::start(&subject, ["--count", "2", "--interval", "1h"]).await;
    let mut call = natstream(["call", &subject]).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(call.stdout.take().unwrap());
    within(LIMIT, stdout.read_line(&mut line)).await.unwrap();
    assert_eq!(line, "0\n");
    signal(&call, Signal::TERM);
    end(call).await.exits_with(130);
}

#[tokio::test]
async fn items_of_every_size_arrive() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lines");
    // More than max_payload (1 MiB), to the byte what one message takes, and nothing at all.
    let text: String = [0, 65_536, 0, 1, 1_500_000, 1_048_576, 4_095, 0]
        .map(|size| "x".repeat(size) + "\n")
        .concat();
    std::fs::write(&file, &text).unwrap();
    let subject = unique_subject("cli.call");
    let _serving = Serving::start(&subject, ["--lines", file.to_str().unwrap()]).await;
    let call = run(["call", &subject]).await.exits_with(0);
    assert!(call.stdout == text.as_bytes(), "{} bytes arrived", call.stdout.len());
    let raw = run(["call", &subject, "--raw"]).await.exits_with(0);
    assert!(
        raw.stdout == text.replace('\n', "").as_bytes(),
        "{} bytes arrived",
        raw.stdout.len()
    );
}

#[tokio::test]
async fn items_need_not_be_text() {
    let subject = unique_subject("cli.call");
    let _serving = Serving::start(&subject, ["--", "printf", r"a\0b\n\377\376\n\n比\r"]).await;
    let lines = run(["call", &subject]).await.exits_with(0);
    assert_eq!(lines.stdout, [b"a\0b\n\xff\xfe\n\n", "比\r\n".as_bytes()].concat());
    let raw = run(["call", &subject, "--raw"]).await.exits_with(0);
    assert_eq!(raw.stdout, [b"a\0b\xff\xfe", "比\r".as_bytes()].concat());
    let jsonl = run(["call", &subject, "--jsonl"]).await.exits_with(0);
    assert_eq!(
        jsonl.lines(),
        [
            r#"{"seq":0,"data":"a\u0000b"}"#,
            r#"{"seq":1,"data_base64":"//4="}"#,
            r#"{"seq":2,"data":""}"#,
            r#"{"seq":3,"data":"比\r"}"#,
        ]
    );
}

#[tokio::test]
async fn a_body_is_text_or_a_file_or_standard_input() {
    let subject = unique_subject("cli.call");
    let _serving = Serving::start(&subject, ["--", "cat"]).await;
    let text = run(["call", &subject, "text ü"]).await.exits_with(0);
    assert_eq!(text.stdout, "text ü\n".as_bytes());
    let none = run(["call", &subject]).await.exits_with(0);
    assert!(none.stdout.is_empty());

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from a file\n").unwrap();
    let file = run(["call", &subject, &format!("@{}", file.path().display())])
        .await
        .exits_with(0);
    assert_eq!(file.stdout, b"from a file\n");

    let mut call = natstream(["call", &subject, "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = call.stdin.take().unwrap();
    stdin.write_all(b"from standard input\n").await.unwrap();
    drop(stdin);
    assert_eq!(end(call).await.exits_with(0).stdout, b"from standard input\n");
}

#[tokio::test]
async fn enough_items_cancel_the_call() {
    let subject = unique_subject("cli.call");
    let script = "echo $$; while echo more; do :; done";
    let _serving = Serving::start(&subject, ["--", "sh", "-c", script]).await;
    let call = run(["call", &subject, "--max-items", "3", "--json"])
        .await
        .exits_with(0);
    let [pid, "more", "more"] = call.lines()[..] else {
        panic!("{call:?}");
    };
    assert_eq!(call.summary()["ended"], "max_items");
    until("the command has been killed", || is_gone(pid)).await;
}

#[tokio::test]
async fn an_interrupt_cancels_the_call() {
    for name in [Signal::INT, Signal::TERM] {
        let subject = unique_subject("cli.call");
        let script = "sleep 1000 & echo $$; echo $!; wait";
        let _serving = Serving::start(&subject, ["--", "sh", "-c", script]).await;
        let mut call = natstream(["call", &subject, "--json"]).spawn().unwrap();
        let mut stdout = BufReader::new(call.stdout.take().unwrap()).lines();
        let shell = within(LIMIT, stdout.next_line()).await.unwrap().unwrap();
        let sleep = within(LIMIT, stdout.next_line()).await.unwrap().unwrap();
        signal(&call, name);
        let call = end(call).await.exits_with(130);
        assert_eq!(call.summary()["ended"], "interrupted");
        until("the command has been killed with all that it started", || {
            is_gone(&shell) && is_gone(&sleep)
        })
        .await;
    }
}

#[tokio::test]
async fn an_interrupt_before_the_first_message_cancels_the_call() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let subject = unique_subject("cli.call");
    let script = format!("echo $$ > {}; exec sleep 1000", file.display());
    let _serving = Serving::start(&subject, ["--", "sh", "-c", &script]).await;
    let call = natstream(["call", &subject]).spawn().unwrap();
    let mut pid = String::new();
    until("the command runs", || {
        pid = std::fs::read_to_string(&file).unwrap_or_default();
        pid.ends_with('\n')
    })
    .await;
    // The responder shows itself only after 200 ms: before that there is nobody to be told.
    signal(&call, Signal::INT);
    end(call).await.exits_with(130);
    // Less than the 15 s after which a responder finds out by itself.
    let killed = until("the command has been killed", || is_gone(pid.trim()));
    within(std::time::Duration::from_secs(10), killed).await;
}

#[tokio::test]
async fn a_closed_standard_output_is_not_an_error() {
    let subject = unique_subject("cli.call");
    // The second item comes too late for anybody to write it.
    let script = "echo $$; exec sleep 1000";
    let _serving = Serving::start(&subject, ["--", "sh", "-c", script]).await;
    let mut call = natstream(["call", &subject, "--json"]).spawn().unwrap();
    let mut pid = [0; 32];
    let mut stdout = call.stdout.take().unwrap();
    let length = within(LIMIT, stdout.read(&mut pid)).await.unwrap();
    drop(stdout);
    let call = end(call).await.exits_with(0);
    assert_eq!(call.summary()["ended"], "output_closed");
    assert!(!call.stderr.contains("error:"), "{call:?}");
    let pid = std::str::from_utf8(&pid[..length]).unwrap().trim();
    until("the command has been killed", || is_gone(pid)).await;
}

#[tokio::test]
async fn a_flood_into_a_closed_standard_output_is_not_an_error() {
    let subject = unique_subject("cli.call");
    let _serving = Serving::start(&subject, ["--count", "100000000", "--size", "128"]).await;
    let mut call = natstream(["call", &subject]).spawn().unwrap();
    let mut stdout = call.stdout.take().unwrap();
    within(LIMIT, stdout.read_exact(&mut [0; 1000])).await.unwrap();
    drop(stdout);
    end(call).await.exits_with(0);
}

#[tokio::test]
async fn a_full_disk_is_an_error() {
    let subject = unique_subject("cli.call");
    let _serving = Serving::start(&subject, ["--count", "10"]).await;
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut call = natstream(["call", &subject, "--json"]);
    let call = end(call.stdout(full).spawn().unwrap()).await;
    assert_eq!(
        (call.code, &call.summary()["ended"]),
        (Some(5), &"output_failed".into()),
        "{call:?}"
    );
}

#[tokio::test]
async fn clocks_run_out() {
    let subject = unique_subject("cli.call");
    let script = "if [ \"$NATS_REQUEST_BODY\" ]; then echo one; fi; exec sleep 1000";
    let _serving = Serving::start(&subject, ["--", "sh", "-c", script]).await;
    for (body, option, clock) in [
        ("", "--first-timeout", "first_item"),
        ("x", "--idle-timeout", "idle"),
        ("x", "--deadline", "deadline"),
    ] {
        let call = run(["call", &subject, body, "--json", option, "300ms"])
            .await
            .exits_with(4);
        assert_eq!(call.summary()["clock"], clock, "{call:?}");
        assert!(
            call.stderr.contains("hint: ") && call.stderr.contains(option),
            "{call:?}"
        );
    }
}

#[tokio::test]
async fn quiet_says_nothing() {
    let subject = unique_subject("cli.call");
    let _serving = Serving::start(&subject, ["--count", "1"]).await;
    for args in [["--quiet", "call", &subject], ["call", &subject, "--quiet"]] {
        let call = run(args).await.exits_with(0);
        assert_eq!(call.stdout, b"0\n");
        assert_eq!(call.stderr, "");
    }
}
