//! Streams, and what becomes of them.

use crate::run;

#[test]
fn batches() {
    run("batches").has(&[
        r#"items "": 10 items, the last is Some(b"response 9"), complete"#,
        r#"pages "orders": 1050 items, the last is Some(b"orders 1049"), complete"#,
        r#"pages "nothing": 0 items, the last is None, Some(NotFound)"#,
        r#"squares "1000": 1000 items, the last is Some(b"998001"), complete"#,
        r#"stream "": 5 items, the last is Some(b"4"), Some(Unavailable)"#,
    ]);
}

#[test]
fn cleanup() {
    run("cleanup").has(&[
        "read: 100 lines, complete, 0 files left",
        "wait: 100 lines, left, 0 files left",
        "fail: 100 lines, Some(Unavailable), 0 files left",
        "panic: 100 lines, Some(Internal), 0 files left",
    ]);
}

#[test]
fn count() {
    run("count").has(&["1000 numbers", "sum 500500"]);
}

#[test]
fn demo() {
    run("demo").has(&["\nsearch ", "\nmachine ", "\nslow reader ", "\nfailing handler "]);
}

#[test]
fn http_relay() {
    let shown = run("http_relay");
    shown.has(&[
        "short: 3 events, complete",
        "endless: 5 events, the caller leaves",
        "broken: 3 events, Some(DataLoss)",
        "unknown: 0 events, Some(NotFound)",
    ]);
    assert_eq!(shown.text.matches("the HTTP request has ended").count(), 4);
}

#[test]
fn outage() {
    run("outage").has(&["200000 numbers", "over 2 reconnects", "guarantee Complete, attempt 1"]);
}

#[test]
fn overload() {
    run("overload").has(&[
        "so far 0 fresh reports, 5 of yesterday",
        "in the end 5 fresh reports, 5 of yesterday",
        "5 handlers were begun",
        "with patience 10 of 10 are fresh",
    ]);
}

#[test]
fn pipeline() {
    run("pipeline").has(&["980 averages of Some(100000) lines", "the extractor has ended: true"]);
}

#[test]
fn plain_nats() {
    run("plain_nats").has(&[
        "ours: 3 items, then __STREAM_END__",
        "broken: 0 items, then __STREAM_ERROR__",
        r#"ours "": 3 items, complete, guarantee Complete"#,
        r#"theirs "": 5 items, complete, guarantee Plain"#,
        r#"theirs "fail": 5 items, Failed, guarantee Plain"#,
    ]);
}

#[test]
fn resume() {
    // How many attempts it takes depends on how busy the machine is.
    run("resume").has(&["200000 numbers, each once, in order", "by another process: true"]);
}

#[test]
fn retry() {
    run("retry").has(&[
        r#"once: Some(b"fresh") on attempt 1"#,
        r#"thrice: Some(b"fresh") on attempt 3"#,
        "hopeless: Failed after attempt 4",
        "broken: Failed after 4 items, attempt 1",
        "from the beginning: 10 items on attempt 2",
    ]);
}

#[test]
fn simple_stream() {
    run("simple_stream").has(&[
        "complete: 10 responses",
        "broken off: 3 responses, and the task was told: Some(Cancelled)",
        "refused: Some(InvalidArgument)",
    ]);
}

#[test]
fn tcp() {
    run("tcp").has(&["100000 numbers", "sum 4999950000"]);
}

#[test]
fn ticker() {
    run("ticker").has(&[
        "AAPL and MSFT were watched at a time",
        "no old price: true",
        "nobody knows NONE: true",
        "4 calls, 0 still active, 0 aborted",
    ]);
}

#[test]
fn timeouts() {
    run("timeouts").has(&[
        "Timeout, clock Some(FirstItem), code None, after items: false",
        "Timeout, clock Some(Idle), code None, after items: true",
        "Timeout, clock Some(Deadline), code None",
        "Failed, clock None, code Some(DeadlineExceeded), after items: false",
        "the handler was told: Cancelled",
    ]);
}

#[test]
fn typed() {
    run("typed").has(&[
        "11 orders; Some(Summary { orders: 11, amount: 10450 })",
        "no question: Some(InvalidArgument)",
        "order 1\nitem 1: Decode\norder 3\n",
    ]);
}
