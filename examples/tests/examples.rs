//! Runs every example against a real nats-server.

use std::path::Path;
use std::process::{Command, Output};

/// Runs an example, which `cargo test` has built beside this test, from the root of the workspace.
fn run(example: &str) -> Output {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let output = Command::new(profile.join("examples").join(example))
        .env("NATS_URL", testkit::shared_url())
        .current_dir(root)
        .output()
        .unwrap_or_else(|error| panic!("the example {example} cannot be run: {error}"));
    assert!(output.status.success(), "{example}: {output:?}");
    output
}

#[test]
fn count() {
    let output = run("count");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1000 numbers, sum 500500\n");
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
fn messages() {
    let output = run("messages");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "examples.events.user.created: Ada\nexamples.events.user.created: Grace\nsum 6, 2 events\n"
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
fn tcp() {
    let output = run("tcp");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "100000 numbers, sum 4999950000\n"
    );
}
