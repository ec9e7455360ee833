//! Runs every example against a real nats-server.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// An example, which `cargo test` has built beside this test, to be run from the root of the workspace.
fn command(example: &str) -> Command {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut command = Command::new(profile.join("examples").join(example));
    command.env("NATS_URL", testkit::shared_url()).current_dir(root);
    command
}

fn run(example: &str) -> Output {
    let output = command(example)
        .output()
        .unwrap_or_else(|error| panic!("the example {example} cannot be run: {error}"));
    assert!(output.status.success(), "{example}: {output:?}");
    output
}

#[test]
fn bulk_import() {
    let output = run("bulk_import");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "imported 10000 records, 0 were there already\nimported 100 records, 100 were there already\n\
         synchronised 10000 records\n"
    );
}

#[test]
fn count() {
    let output = run("count");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1000 numbers, sum 500500\n");
}

#[test]
fn dead_letters() {
    let output = run("dead_letters");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "2 processed, 2 put aside, sum 40\nno order: rubbish (tried 1 times)\n\
         the customer is not known yet (tried 3 times)\n1 processed, 0 put aside, sum 20\n"
    );
}

#[test]
fn demo() {
    let output = run("demo");
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["search", "machine", "slow reader", "failing handler"] {
        assert!(
            text.lines().any(|line| line.starts_with(part)),
            "{part} is missing in {text}"
        );
    }
}

#[test]
fn files() {
    let output = run("files");
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "survives a kill: true",
        ".log: 2 records, ",
        "2 records survive a power loss",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn exactly_once() {
    let output = run("exactly_once");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "killed: true, events: 20000, records: 20000, missing: 0, different: 0, whole: true\n"
    );
}

#[test]
fn log_collector() {
    let output = run("log_collector");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "5011 accepted, 5011 acked, 0 lost\n"
    );
}

#[test]
fn messages() {
    let output = run("messages");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "examples.events.user.created: Ada\nexamples.events.user.created: Grace\nsum 6, 2 events\n"
    );
}

#[test]
fn projection() {
    let output = run("projection");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "10 accounts, balance 990, all in the same order: true\n12 attempts failed\n"
    );
}

#[test]
fn record() {
    let output = run("record");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "2 events, 0 dropped\n1000 numbers, 1000 survive a power loss\nevents.log: 2 lines\nnumbers.log: 1000 lines\n"
    );
}

#[test]
fn order_processor() {
    let output = run("order_processor");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "payment confirmed: seq=1\norder confirmed: id=7, seq=2\n5 messages in the stream\n"
    );
}

#[test]
fn sync_async() {
    let mut child = command("sync_async").stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let lines: Vec<String> = lines.take(6).map(|line| line.expect("text")).collect();
    // It goes on until Ctrl-C.
    child.kill().expect("it runs");
    child.wait().expect("it ends");
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
    let output = run("task_queue");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "100 tasks done, by more than one worker: true\n0 tasks are left\n"
    );
}

#[test]
fn tcp() {
    let output = run("tcp");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "100000 numbers, sum 4999950000\n"
    );
}

#[test]
fn welcome_mail() {
    let output = run("welcome_mail");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "welcome, Ada, Edsger, Grace\n1 attempts failed\n"
    );
}

#[test]
fn transaction() {
    let output = run("transaction");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "2 bookings, numbers up to 2\nsomebody was faster: 2 bookings are still here\n2 messages in the stream\n"
    );
}

#[test]
fn configuration() {
    let output = String::from_utf8_lossy(&run("configuration").stdout).into_owned();
    assert!(output.contains("limits.rate is Some(100)"), "{output}");
    assert!(output.contains("raised to 120"), "{output}");
    assert!(output.contains("limits.rate becomes Some(110)"), "{output}");
    assert!(output.contains("limits.rate becomes None"), "{output}");
}

#[test]
fn release() {
    let output = String::from_utf8_lossy(&run("release").stdout).into_owned();
    assert!(output.contains("app-1.0.tar has 80 chunks"), "{output}");
    assert!(output.contains("10 MiB were read, and are what was put"), "{output}");
}
