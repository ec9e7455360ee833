//! `natstream serve`: its end.

use rustix::process::Signal;
use testkit::{unique_subject, within};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{LIMIT, Serving, end, is_gone, natstream, run, until};

#[tokio::test]
async fn a_drain_lets_running_calls_end() {
    for name in [Signal::TERM, Signal::INT] {
        let subject = unique_subject("cli.serve");
        let directory = tempfile::tempdir().unwrap();
        let go = directory.path().join("go");
        let script = format!(
            "echo one; while ! [ -e {} ]; do sleep 0.01; done; echo two",
            go.display()
        );
        let mut serving = Serving::start(&subject, ["--drain", "50s", "--", "sh", "-c", &script]).await;
        let mut call = natstream(["call", &subject]).spawn().unwrap();
        let mut lines = BufReader::new(call.stdout.take().unwrap()).lines();
        assert_eq!(within(LIMIT, lines.next_line()).await.unwrap().as_deref(), Some("one"));

        serving.signal(name);
        serving
            .says(&format!(
                "SIG{}: draining",
                if name == Signal::TERM { "TERM" } else { "INT" }
            ))
            .await;
        // Calls that are on their way are taken until the endpoint has left; then nobody is there.
        loop {
            let late = run(["call", &subject, "--max-items", "1"]).await;
            assert!(matches!(late.code, Some(0 | 3)), "{late:?}");
            if late.code == Some(3) {
                break;
            }
        }
        std::fs::write(&go, "").unwrap();

        assert_eq!(within(LIMIT, lines.next_line()).await.unwrap().as_deref(), Some("two"));
        end(call).await.exits_with(0);
        // Closed before, it would cancel a call whose end is on its way.
        drop(lines);
        let serve = serving.end().await.exits_with(0);
        assert!(serve.stderr.contains("1 finished, 0 failed"), "{serve:?}");
    }
}

#[tokio::test]
async fn a_drain_ends_calls_that_take_too_long() {
    let subject = unique_subject("cli.serve");
    let args = [
        "--drain",
        "100ms",
        "--json",
        "--",
        "sh",
        "-c",
        "echo $$; exec sleep 1000",
    ];
    let serving = Serving::start(&subject, args).await;
    let mut call = natstream(["call", &subject, "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(call.stdout.take().unwrap()).lines();
    let pid = within(LIMIT, lines.next_line()).await.unwrap().unwrap();
    let serve = serving.stop().await.exits_with(0);
    assert_eq!(serve.summary()["requests"], 1);
    assert!(is_gone(&pid), "a process is left");
    assert_eq!(within(LIMIT, lines.next_line()).await.unwrap(), None);
    let call = end(call).await.exits_with(1);
    assert_eq!(call.summary()["code"], "UNAVAILABLE");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let subject = unique_subject("cli.serve");
    let mut serving = Serving::start(
        &subject,
        ["--drain", "1h", "--", "sh", "-c", "echo $$; exec sleep 1000"],
    )
    .await;
    let mut call = natstream(["call", &subject, "--json"]).spawn().unwrap();
    let mut stdout = BufReader::new(call.stdout.take().unwrap());
    let mut pid = String::new();
    within(LIMIT, stdout.read_line(&mut pid)).await.unwrap();
    serving.signal(Signal::TERM);
    serving.says("SIGTERM: draining").await;
    serving.signal(Signal::INT);
    serving.end().await.exits_with(130);
    until("the command has been killed", || is_gone(pid.trim())).await;
    let call = end(call).await.exits_with(1);
    assert_eq!(call.summary()["code"], "UNAVAILABLE");
}

#[tokio::test]
async fn members_of_a_group_share_the_requests() {
    let subject = unique_subject("cli.serve");
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(Serving::start(&subject, ["--count", "1", "--json"]).await);
    }
    for _ in 0..4 {
        assert_eq!(run(["call", &subject]).await.exits_with(0).lines(), ["0"]);
    }
    let mut requests = 0;
    for member in members {
        requests += member.stop().await.exits_with(0).summary()["requests"]
            .as_u64()
            .unwrap();
    }
    assert_eq!(requests, 4, "each request reached one member");
}

#[tokio::test]
async fn wildcards_are_served() {
    let subject = unique_subject("cli.serve");
    let script = "echo \"$NATS_REQUEST_SUBJECT\"";
    let _serving = Serving::start(&format!("{subject}.*"), ["--", "sh", "-c", script]).await;
    let call = run(["call", &format!("{subject}.x")]).await.exits_with(0);
    assert_eq!(call.lines(), [format!("{subject}.x")]);
}

#[tokio::test]
async fn a_server_that_comes_back_is_no_end() {
    let mut server = within(LIMIT, testkit::NatsServer::start()).await;
    let subject = unique_subject("cli.serve");
    let url = server.url();
    let mut serving = Serving::start(&subject, ["--server", &url, "--count", "3"]).await;
    server.kill();
    serving.says("the connection is lost").await;
    within(LIMIT, server.restart()).await;
    serving.says("connected again").await;
    let call = run(["call", &subject, "-s", &url]).await;
    // The subscription may be under way for a moment.
    assert!(call.code == Some(0), "{call:?}");
    serving.stop().await.exits_with(0);
}
