//! The program `natstream` with an implementation that was made from `docs/protocol.md` alone, in either role.
//!
//! It lies in `tests/interop/natstream_py`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use integration::LIMIT;
use serde_json::Value;
use testkit::program::{Run, Serving, end, finish, natstream, run};
use testkit::{NatsServer, shared_url, unique_subject, within};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::peer::{Peer, python};

/// A twentieth of the native messages that arrive is dropped, always the same ones.
const LOSSY: [&str; 2] = ["--drop", "0.05"];

/// Its directory.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/natstream_py")
}

/// One of its programs, on the shared server unless `args` say otherwise.
fn program(script: &str, subject: &str, args: &[&str]) -> Command {
    let mut command = python();
    let script = directory().join(script);
    command.arg(script).args(["--server", shared_url(), subject]).args(args);
    command
}

/// What its caller gets.
async fn call(subject: &str, args: &[&str]) -> Run {
    finish(
        program("call.py", subject, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true),
    )
    .await
}

/// Its responder, which nats-server knows.
async fn serve(subject: &str, args: &[&str]) -> Peer {
    let mut peer = Peer::spawn(&mut program("serve.py", subject, args));
    assert_eq!(peer.says().await["ready"], subject);
    peer
}

/// What its responder says about its stream when that is over.
async fn ended(responder: &mut Peer) -> Value {
    loop {
        let said = responder.says().await;
        if said["ended"].is_string() {
            return said;
        }
    }
}

/// What both responders generate.
fn items(count: usize, size: usize) -> Vec<String> {
    let item = |number: usize| {
        let number = number.to_string();
        let fill = ".".repeat(size.saturating_sub(number.len()));
        number + &fill
    };
    (0..count).map(item).collect()
}

#[track_caller]
fn assert_items(call: &Run, count: usize, size: usize) {
    let (lines, expected) = (call.lines(), items(count, size));
    let wrong = lines.iter().zip(&expected).position(|(line, item)| line != item);
    assert_eq!((lines.len(), wrong), (count, None), "{}", call.stderr);
}

/// Its caller, and `natstream serve`.
async fn from_natstream(count: usize, size: usize, args: &[&str]) -> Value {
    let subject = unique_subject("interop.independent");
    let (count_text, size_text) = (count.to_string(), size.to_string());
    let _serving = Serving::start(&subject, ["--count", &count_text, "--size", &size_text]).await;
    let call = call(&subject, args).await.exits_with(0);
    assert_items(&call, count, size);
    let verdict = call.summary();
    assert_eq!(
        (&verdict["verdict"], &verdict["items"]),
        (&"ended".into(), &count.into())
    );
    verdict
}

/// `natstream call`, and its responder.
async fn to_natstream(count: usize, size: usize, call: &[&str], args: &[&str]) -> Peer {
    let subject = unique_subject("interop.independent");
    let (count_text, size_text) = (count.to_string(), size.to_string());
    let responder = serve(
        &subject,
        &[&["--count", &count_text, "--size", &size_text], args].concat(),
    )
    .await;
    let call = run([&["call", &subject, "--json"], call].concat()).await.exits_with(0);
    assert_items(&call, count, size);
    assert_eq!(call.summary()["ended"], "complete");
    responder
}

#[tokio::test]
async fn it_agrees_with_the_vectors() {
    let mut command = python();
    command
        .args(["-m", "unittest", "test_vectors"])
        .current_dir(directory());
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true))
        .await
        .exits_with(0);
}

#[tokio::test]
async fn many_small_items_from_natstream() {
    from_natstream(20_000, 40, &[]).await;
}

#[tokio::test]
async fn many_small_items_to_natstream() {
    let mut responder = to_natstream(20_000, 40, &[], &[]).await;
    assert_eq!(ended(&mut responder).await["ended"], "done");
}

#[tokio::test]
async fn long_items_from_natstream() {
    from_natstream(5, 200_000, &["--window", "8192"]).await;
    from_natstream(2, 3_000_000, &[]).await;
}

#[tokio::test]
async fn long_items_to_natstream() {
    // More than is kept for sending again, and more than the window.
    to_natstream(5, 200_000, &["--window", "8KiB"], &["--retention", "30000"]).await;
    to_natstream(2, 3_000_000, &[], &[]).await;
}

#[tokio::test]
async fn no_items() {
    from_natstream(0, 1, &[]).await;
    to_natstream(0, 1, &[], &[]).await;
}

#[tokio::test]
async fn a_slow_reader_of_natstream() {
    from_natstream(200, 1000, &["--window", "8192", "--slow", "0.005"]).await;
}

#[tokio::test]
async fn a_reader_that_stops_holds_its_responder_up() {
    let subject = unique_subject("interop.independent");
    let mut responder = serve(&subject, &["--count", "1000", "--size", "1000"]).await;
    let call = ["call", &subject, "--json", "--window", "8KiB"];
    // Nobody reads what it prints, until the responder says that it is held up.
    let child = natstream(call).spawn().expect("the program starts");
    assert_eq!(responder.says().await["blocked"], true);
    let call = end(child).await.exits_with(0);
    assert_items(&call, 1000, 1000);
    assert_eq!(ended(&mut responder).await["ended"], "done");
}

#[tokio::test]
async fn its_cancel_ends_a_command() {
    let subject = unique_subject("interop.independent");
    let script = "echo $$; while echo more; do sleep 0.02; done";
    let _serving = Serving::start(&subject, ["--", "sh", "-c", script]).await;
    let call = call(&subject, &["--max-items", "5"]).await.exits_with(0);
    let lines = call.lines();
    assert_eq!((lines.len(), &call.summary()["verdict"]), (5, &"cancelled".into()));
    testkit::program::until("the command has been killed", || testkit::program::is_gone(lines[0])).await;
}

#[tokio::test]
async fn a_cancel_reaches_its_handler() {
    let subject = unique_subject("interop.independent");
    let mut responder = serve(&subject, &["--count", "100000", "--interval", "0.01"]).await;
    let call = run(["call", &subject, "--max-items", "5"]).await.exits_with(0);
    assert_eq!(call.lines().len(), 5);
    let said = ended(&mut responder).await;
    assert_eq!(
        (&said["ended"], &said["handler"]),
        (&"cancelled".into(), &"cancelled".into())
    );
}

#[tokio::test]
async fn its_caller_loses_messages() {
    let verdict = from_natstream(200, 3000, &[&LOSSY[..], &["--seed", "7"]].concat()).await;
    assert!(
        verdict["dropped"].as_u64() > Some(0) && verdict["counts"]["rewinds"].as_u64() > Some(0),
        "{verdict}"
    );
    let verdict = from_natstream(1, 3_000_000, &[&LOSSY[..], &["--seed", "3"]].concat()).await;
    assert!(verdict["dropped"].as_u64() > Some(0), "{verdict}");
}

#[tokio::test]
async fn its_responder_loses_messages() {
    let lossy = [&LOSSY[..], &["--seed", "5"]].concat();
    let mut responder = to_natstream(500, 3000, &["--window", "32KiB"], &lossy).await;
    // Not how its stream has ended: nobody is left to repeat a CLOSE that was dropped.
    responder.terminate();
    loop {
        let said = responder.says().await;
        if let Some(dropped) = said["dropped"].as_u64() {
            return assert!(dropped > 0);
        }
    }
}

#[tokio::test]
async fn a_failure_of_natstream() {
    let subject = unique_subject("interop.independent");
    let script = "echo one; echo '磁盘坏了: 没有空间' >&2; exit 3";
    let _serving = Serving::start(&subject, ["--", "sh", "-c", script]).await;
    let call = call(&subject, &[]).await.exits_with(1);
    assert_eq!(call.lines(), ["one"]);
    let verdict = call.summary();
    assert_eq!(
        (&verdict["verdict"], &verdict["message"]),
        (&"failed".into(), &"磁盘坏了: 没有空间".into())
    );
    assert!(
        verdict["details"].as_str().is_some_and(|details| details.contains('3')),
        "{verdict}"
    );
}

#[tokio::test]
async fn a_failure_of_its_handler() {
    let subject = unique_subject("interop.independent");
    let failure = [
        "--count",
        "3",
        "--size",
        "4",
        "--fail",
        "DATA_LOSS:磁盘坏了",
        "--details",
        "扇区 7",
    ];
    let _responder = serve(&subject, &failure).await;
    let call = run(["call", &subject, "--json"]).await.exits_with(1);
    assert_items(&call, 3, 4);
    let summary = call.summary();
    for (key, value) in [
        ("ended", "failed"),
        ("code", "DATA_LOSS"),
        ("message", "磁盘坏了"),
        ("details", "扇区 7"),
    ] {
        assert_eq!(summary[key], value, "{summary}");
    }
}

#[tokio::test]
async fn nobody_is_there() {
    let call = call(&unique_subject("interop.independent"), &[]).await.exits_with(1);
    assert_eq!(call.summary()["verdict"], "no_responders");
}

#[tokio::test]
async fn its_responder_is_tested_without_its_handler() {
    let subject = unique_subject("interop.independent");
    let mut responder = serve(&subject, &["--count", "7"]).await;
    run(["doctor", &subject]).await.exits_with(0);
    assert_eq!(ended(&mut responder).await["items"], 3);
}

#[tokio::test]
async fn its_deadline() {
    let subject = unique_subject("interop.independent");
    let _serving = Serving::start(&subject, ["--count", "1000", "--interval", "50ms"]).await;
    let verdict = call(&subject, &["--deadline", "0.6"]).await.exits_with(1).summary();
    assert_eq!(
        (&verdict["verdict"], &verdict["clock"]),
        (&"timed_out".into(), &"deadline".into())
    );
}

#[tokio::test]
async fn a_deadline_of_natstream() {
    let subject = unique_subject("interop.independent");
    let mut responder = serve(&subject, &["--count", "1000", "--interval", "0.05"]).await;
    run(["call", &subject, "--deadline", "600ms"]).await.exits_with(4);
    // By the caller's word, or by its own clock.
    let handler = ended(&mut responder).await["handler"].clone();
    assert!(handler == "cancelled" || handler == "deadline", "{handler}");
}

/// Lines to the end, with a nats-server that is killed and comes back after the tenth.
async fn lines_over_a_restart(server: &mut NatsServer, command: &mut Command) -> Vec<String> {
    let mut child = command
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let mut reader = BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines();
    let mut lines = Vec::new();
    while let Some(line) = within(LIMIT, reader.next_line())
        .await
        .expect("the program can be read")
    {
        lines.push(line);
        if lines.len() == 10 {
            server.kill();
            server.restart().await;
        }
    }
    let status = within(LIMIT, child.wait())
        .await
        .expect("the program can be waited for");
    assert!(status.success(), "{status}, {} lines", lines.len());
    lines
}

#[tokio::test]
async fn its_caller_sees_nothing_of_a_server_that_is_killed() {
    let mut server = NatsServer::start().await;
    let (url, subject) = (server.url(), unique_subject("interop.independent"));
    let args = [
        "-s",
        &url,
        "serve",
        &subject,
        "--count",
        "80",
        "--size",
        "100",
        "--interval",
        "20ms",
    ];
    let _serving = Serving::spawn(&mut natstream(args)).await;
    let mut call = program("call.py", &subject, &["--server", &url]);
    assert_eq!(lines_over_a_restart(&mut server, &mut call).await, items(80, 100));
}

#[tokio::test]
async fn its_responder_goes_on_with_a_server_that_was_killed() {
    let mut server = NatsServer::start().await;
    let (url, subject) = (server.url(), unique_subject("interop.independent"));
    let args = ["--server", &url, "--count", "80", "--size", "100", "--interval", "0.02"];
    let mut responder = serve(&subject, &args).await;
    let mut call = natstream(["-s", &url, "call", &subject]);
    assert_eq!(lines_over_a_restart(&mut server, &mut call).await, items(80, 100));
    ended(&mut responder).await;
}
