//! Messages without streams.

use crate::run;

#[test]
fn alerts() {
    run("alerts").has(&["boiler is at 93 degrees", "further alerts: false"]);
}

#[test]
fn pub_sub() {
    let shown = run("pub_sub");
    shown.has(&[
        "audit: examples.pubsub.user.created = Ada\n",
        "examples.pubsub.>: 4 handled, 1 failed",
        "examples.pubsub.order.*: 1 handled, 1 failed",
    ]);
}

#[test]
fn queue_group() {
    run("queue_group").has(&[
        "each task once: true",
        "by 3 workers",
        "100 tasks while a worker left, which has given up 0",
    ]);
}

#[test]
fn request() {
    run("request").has(&[
        "pong",
        "sum 6",
        "add: Failed, code Some(InvalidArgument), ask again: false",
        "forbidden: Failed, code Some(PermissionDenied), ask again: false",
        "nobody: NoResponders, code None, ask again: true",
        "silent: Timeout, code None, ask again: false",
    ]);
}
