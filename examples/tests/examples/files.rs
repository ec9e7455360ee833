//! Files.

use crate::run;

#[test]
fn exactly_once() {
    run("exactly_once").has(&[
        "killed: true",
        "events: 20000, records: 20000, missing: 0, different: 0, whole: true",
    ]);
}

#[test]
fn files() {
    run("files").has(&[
        "survives a kill: true",
        ".log: 2 records, ",
        "2 records survive a power loss",
    ]);
}

#[test]
fn record() {
    run("record").has(&["2 events, 0 dropped", "events.log: 2 lines"]);
}

#[test]
fn record_answer() {
    run("record_answer").has(&[
        "1000 numbers, 1000 survive a power loss",
        "1000 lines, in several files: true",
    ]);
}

#[test]
fn release() {
    run("release").has(&["app-1.0.tar has 80 chunks", "10 MiB were read, and are what was put"]);
}
