//! Processes that die, stop or leave: `call`, `serve` and nats-server, each on its own.

use std::time::Duration;

use rustix::process::Signal;
use testkit::{NatsServer, unique_subject, within};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::support::{LIMIT, Run, Serving, end, is_gone, natstream, run, signal, until};

/// Who is dead is known by then, also with the heartbeat that nobody has set.
const DEAD: Duration = Duration::from_secs(20);

/// Who is told knows at once.
const TOLD: Duration = Duration::from_secs(2);

/// A command that says its process id, and stays.
const STAYS: [&str; 4] = ["--", "sh", "-c", "echo $$; exec sleep 1000"];

/// A `natstream call` whose items are read as they come.
struct Calling {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    items: u64,
}

impl Calling {
    fn start(subject: &str, args: &[&str]) -> Self {
        let mut command = natstream(["call", subject, "--json"]);
        let mut child = command.args(args).spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
            items: 0,
        }
    }

    /// The next item; `None` when there are no more.
    async fn next(&mut self) -> Option<String> {
        let line = within(LIMIT, self.lines.next_line()).await;
        let line = line.expect("items are text");
        self.items += u64::from(line.is_some());
        line
    }

    fn signal(&self, name: Signal) {
        signal(&self.child, name);
    }

    /// The end, and how many items there were.
    async fn end(mut self) -> (Run, u64) {
        while self.next().await.is_some() {}
        drop(self.lines);
        (end(self.child).await, self.items)
    }

    /// The end of a call that was lost, as it must be told.
    async fn lost(self) -> Run {
        let (call, items) = within(DEAD, self.end()).await;
        let call = call.exits_with(5);
        let summary = call.summary();
        assert_eq!(
            (&summary["ended"], &summary["items"]),
            (&"lost".into(), &items.into()),
            "{call:?}"
        );
        assert!(
            call.stderr.contains(&format!(" was lost after {items} items")),
            "{call:?}"
        );
        call
    }
}

/// Numbers that go on for longer than any test.
async fn numbers(subject: &str) -> Serving {
    Serving::start(subject, ["--count", "100000000", "--interval", "10ms"]).await
}

#[tokio::test]
async fn a_call_goes_on_when_nats_server_is_killed_twice() {
    let mut nats = within(LIMIT, NatsServer::start()).await;
    let url = nats.url();
    let subject = unique_subject("cli.deaths");
    let args = ["-s", &url, "--count", "300", "--size", "100", "--interval", "10ms"];
    let serving = Serving::start(&subject, args).await;
    let mut call = Calling::start(&subject, &["-s", &url]);
    for number in 0..300 {
        assert_eq!(call.next().await, Some(format!("{number:.<100}")));
        if number == 50 || number == 150 {
            nats.kill();
            within(LIMIT, nats.restart()).await;
        }
    }
    let (call, items) = call.end().await;
    let call = call.exits_with(0);
    assert_eq!((items, &call.summary()["reconnects"]), (300, &2.into()), "{call:?}");
    serving.stop().await.exits_with(0);
}

#[tokio::test]
async fn a_responder_that_is_killed_is_lost() {
    for args in [&["--heartbeat", "1s"][..], &[]] {
        let subject = unique_subject("cli.deaths");
        let serving = numbers(&subject).await;
        let mut call = Calling::start(&subject, args);
        for _ in 0..3 {
            call.next().await.expect("an item");
        }
        serving.signal(Signal::KILL);
        assert_eq!(serving.end().await.code, None, "it was killed");
        call.lost().await;
    }
}

#[tokio::test]
async fn an_idle_responder_leaves_at_once() {
    let subject = unique_subject("cli.deaths");
    let serving = Serving::start(&subject, ["--count", "3", "--drain", "1h", "--json"]).await;
    assert_eq!(run(["call", &subject]).await.exits_with(0).lines(), ["0", "1", "2"]);
    // Not as long as a confirmation is waited for: it is there.
    let serve = within(TOLD, serving.stop()).await.exits_with(0);
    assert_eq!(serve.summary()["finished"], 1);
    run(["call", &subject]).await.exits_with(3);
}

#[tokio::test]
async fn the_command_of_a_caller_that_is_killed_is_ended() {
    for args in [&["--heartbeat", "1s"][..], &[]] {
        let subject = unique_subject("cli.deaths");
        let serving = Serving::start(&subject, STAYS).await;
        let mut call = Calling::start(&subject, args);
        let pid = call.next().await.expect("a process id");
        assert!(!is_gone(&pid));
        call.signal(Signal::KILL);
        within(DEAD, until("the command is gone", || is_gone(&pid))).await;
        assert_eq!(call.end().await.0.code, None, "it was killed");
        let serve = serving.stop().await.exits_with(0);
        assert!(serve.stderr.contains("1 cancelled"), "{serve:?}");
    }
}

#[tokio::test]
async fn the_command_of_a_caller_that_leaves_is_ended_at_once() {
    let subject = unique_subject("cli.deaths");
    let serving = Serving::start(&subject, STAYS).await;
    for name in [Signal::INT, Signal::TERM] {
        let mut call = Calling::start(&subject, &[]);
        let pid = call.next().await.expect("a process id");
        call.signal(name);
        within(TOLD, until("the command is gone", || is_gone(&pid))).await;
        call.end().await.0.exits_with(130);
    }
    let mut call = Calling::start(&subject, &["--max-items", "1"]);
    let pid = call.next().await.expect("a process id");
    within(TOLD, until("the command is gone", || is_gone(&pid))).await;
    call.end().await.0.exits_with(0);
    serving.stop().await.exits_with(0);
}

#[tokio::test]
async fn a_responder_that_stands_still_is_lost_by_its_silence() {
    let subject = unique_subject("cli.deaths");
    let serving = numbers(&subject).await;
    let mut call = Calling::start(&subject, &["--heartbeat", "1s"]);
    for _ in 0..3 {
        call.next().await.expect("an item");
    }
    serving.signal(Signal::STOP);
    // Three heartbeats, and some.
    let call = within(Duration::from_secs(10), call.lost()).await;
    assert!(call.stderr.contains("three heartbeats"), "{call:?}");
    // Its stream was given up by the caller; it serves again.
    serving.signal(Signal::CONT);
    run(["call", &subject, "--max-items", "1"]).await.exits_with(0);
    serving.signal(Signal::INT);
    serving.end().await.exits_with(0);
}

#[tokio::test]
async fn a_caller_that_stands_still_has_lost_its_answer() {
    let subject = unique_subject("cli.deaths");
    let serving = Serving::start(&subject, STAYS).await;
    let mut call = Calling::start(&subject, &["--heartbeat", "1s"]);
    let pid = call.next().await.expect("a process id");
    call.signal(Signal::STOP);
    within(Duration::from_secs(10), until("the command is gone", || is_gone(&pid))).await;
    call.signal(Signal::CONT);
    call.lost().await;
    serving.stop().await.exits_with(0);
}

#[tokio::test]
async fn a_short_stop_of_either_side_is_no_loss() {
    let subject = unique_subject("cli.deaths");
    let args = ["--count", "200", "--interval", "10ms"];
    let serving = Serving::start(&subject, args).await;
    let mut call = Calling::start(&subject, &["--heartbeat", "1s"]);
    for number in 0..200 {
        assert_eq!(call.next().await, Some(number.to_string()));
        if number == 20 || number == 100 {
            let stop = |name| {
                if number == 20 {
                    call.signal(name)
                } else {
                    serving.signal(name)
                }
            };
            stop(Signal::STOP);
            // sleep: longer than a heartbeat, shorter than three.
            tokio::time::sleep(Duration::from_millis(1500)).await;
            stop(Signal::CONT);
        }
    }
    call.end().await.0.exits_with(0);
}
