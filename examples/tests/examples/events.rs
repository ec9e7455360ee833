//! Events: streams of JetStream.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::{command, run, wait};

#[test]
fn bulk_import() {
    run("bulk_import").has(&[
        "imported 10000 records, 0 were there already",
        "imported 100 records, 100 were there already",
        "synchronised 10000 records",
    ]);
}

#[test]
fn dead_letters() {
    run("dead_letters").has(&[
        "2 processed, 2 put aside, sum 40",
        "no order: rubbish (tried 1 times)",
        "the customer is not known yet (tried 3 times)",
        "1 processed, 0 put aside, sum 20",
    ]);
}

#[test]
fn forward() {
    run("forward").has(&[
        "300 messages, 300 forwarded, 0 dropped",
        "300 in the order of their subjects",
    ]);
}

#[test]
fn log_collector() {
    run("log_collector").has(&["5001 accepted, 5001 acked, 0 lost"]);
}

#[test]
fn order_processor() {
    run("order_processor").has(&[
        "payment confirmed: seq=1",
        "order confirmed: id=7, seq=2",
        "5 messages in the stream",
    ]);
}

#[test]
fn outbox() {
    run("outbox").has(&[
        "1000 events were accepted without a server",
        "1000 were found",
        "1000 delivered, 0 left",
        "1000 messages in the stream",
    ]);
}

#[test]
fn projection() {
    run("projection").has(&[
        "10 accounts, balance 990, all in the same order: true",
        "12 attempts failed",
    ]);
}

#[test]
fn pull() {
    run("pull").has(&[
        "the last order has the number 19",
        "fetched [1, 3, 5, 7, 9, 11]",
        "fetched 6 more, 2 of them again",
        "0 left, 0 not acked",
        "20 messages in the stream",
    ]);
}

#[test]
fn sync_async() {
    let mut child = command("sync_async").stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let lines: Vec<String> = lines.take(6).map(|line| line.expect("text")).collect();
    // It goes on until Ctrl-C, and then removes its stream. std knows SIGKILL only.
    let script = r#"kill -s INT "$1""#;
    let interrupt = Command::new("/bin/sh")
        .args(["-c", script, "interrupt", &child.id().to_string()])
        .status();
    assert!(interrupt.expect("a shell").success());
    assert!(wait(&mut child), "it has failed after {lines:?}");
    // What the seed promises, word for word.
    assert_eq!(
        lines,
        [
            "收到消息 seq=1 data=sync-1",
            "同步发布完成",
            "收到消息 seq=2 data=async-1",
            "收到消息 seq=3 data=async-2",
            "所有异步发布已确认",
            "同步/异步发布演示运行中；按 Ctrl+C 退出",
        ]
    );
}

#[test]
fn task_queue() {
    run("task_queue").has(&["100 tasks done, by more than one worker: true", "0 tasks are left"]);
}

#[test]
fn transaction() {
    run("transaction").has(&[
        "2 bookings, numbers up to 2",
        "somebody was faster: 2 bookings are still here",
        "2 messages in the stream",
    ]);
}

#[test]
fn welcome_mail() {
    run("welcome_mail").has(&["welcome, Ada, Edsger, Grace", "1 attempts failed"]);
}
