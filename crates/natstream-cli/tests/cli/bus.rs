//! `natstream bus`: exit codes and summaries.

use serde_json::{Value, json};
use testkit::{NatsServer, shared_url, unique_name, unique_subject, within};
use tokio::io::AsyncWriteExt as _;

use crate::support::{LIMIT, finish, natstream, run};

/// A stream on the shared server: its name, and a subject of it.
pub(crate) async fn stream(more: &[&str]) -> (String, String) {
    let (name, subject) = (unique_name("CLI"), unique_subject("cli.bus"));
    let args = [
        "-s",
        shared_url(),
        "bus",
        "stream",
        "add",
        &name,
        "--subjects",
        &subject,
    ];
    run(args.iter().copied().chain(more.iter().copied()))
        .await
        .exits_with(0);
    (name, subject)
}

pub(crate) async fn info(name: &str) -> Value {
    let run = run(["-s", shared_url(), "bus", "stream", "info", name, "--json"])
        .await
        .exits_with(0);
    serde_json::from_str(run.lines()[0]).expect("JSON")
}

#[tokio::test]
async fn every_mode_publishes_everything() {
    let (name, subject) = stream(&[]).await;
    for (mode, total) in [("sync", 300), ("async", 600), ("batch", 900)] {
        let args = [
            "-s",
            shared_url(),
            "--json",
            "bus",
            "publish",
            &subject,
            "--count",
            "300",
            "--size",
            "16",
        ];
        let run = run(args.iter().chain(&["--mode", mode, "--batch", "100"]))
            .await
            .exits_with(0);
        let summary = run.summary();
        assert_eq!(
            (&summary["accepted"], &summary["acked"]),
            (&json!(300), &json!(300)),
            "{mode}"
        );
        assert_eq!(info(&name).await["messages"], json!(total), "{mode}");
    }
}

#[tokio::test]
async fn batches_of_a_stream_publish_everything() {
    let (name, subject) = stream(&["--allow-atomic", "--allow-batched"]).await;
    for (mode, dedup, total) in [
        ("atomic", "id", 250),
        ("atomic", "off", 500),
        ("fast", "off", 750),
        ("fast", "id", 1000),
    ] {
        let args = [
            "-s",
            shared_url(),
            "--json",
            "bus",
            "publish",
            &subject,
            "--count",
            "250",
        ];
        let more = ["--mode", mode, "--dedup", dedup, "--batch", "100"];
        let run = run(args.iter().chain(&more)).await.exits_with(0);
        let summary = run.summary();
        assert_eq!(
            (&summary["accepted"], &summary["acked"]),
            (&json!(250), &json!(250)),
            "{mode}"
        );
        assert_eq!(info(&name).await["messages"], json!(total), "{mode}");
    }
}

/// A batch that is refused is so as a whole; the others are stored.
#[tokio::test]
async fn an_atomic_batch_that_is_refused_is_exit_code_8() {
    let (name, subject) = stream(&["--allow-atomic"]).await;
    let args = [
        "-s",
        shared_url(),
        "--json",
        "bus",
        "publish",
        &subject,
        "--mode",
        "atomic",
    ];
    let ids = ["--msg-id-prefix", "import", "--batch", "10"];
    let first = ["--count", "15"];
    run(args.iter().chain(&ids).chain(&first)).await.exits_with(0);
    let again = ["--count", "30"];
    let run = run(args.iter().chain(&ids).chain(&again)).await.exits_with(8);
    let summary = run.summary();
    assert_eq!((&summary["acked"], &summary["failed"]), (&json!(10), &json!(20)));
    assert_eq!(summary["failures"][0]["kind"], json!("DuplicateId"));
    assert_eq!(info(&name).await["messages"], json!(25));
}

#[tokio::test]
async fn a_stream_that_takes_no_batches_is_told_with_the_command_that_lets_it() {
    let (_, subject) = stream(&[]).await;
    let args = ["-s", shared_url(), "bus", "publish", &subject, "x", "--mode"];
    for (mode, option) in [("atomic", "--allow-atomic"), ("fast", "--allow-batched")] {
        let run = run(args.iter().chain(&[mode])).await.exits_with(1);
        assert!(run.stderr.contains(option), "{run:?}");
    }
    let nowhere = unique_subject("nowhere");
    for mode in ["atomic", "fast"] {
        let args = ["-s", shared_url(), "bus", "publish", &nowhere, "x", "--mode", mode];
        run(args).await.exits_with(3);
    }
    let args = [
        "-s",
        shared_url(),
        "bus",
        "publish",
        &subject,
        "x",
        "--mode",
        "atomic",
        "--batch",
        "1001",
    ];
    run(args).await.exits_with(2);
}

#[tokio::test]
async fn the_same_ids_store_the_same_events_once() {
    let (name, subject) = stream(&[]).await;
    for duplicate in [0, 50] {
        let args = [
            "-s",
            shared_url(),
            "--json",
            "bus",
            "publish",
            &subject,
            "--count",
            "50",
        ];
        let run = run(args.iter().chain(&["--msg-id-prefix", "import-1"]))
            .await
            .exits_with(0);
        assert_eq!(run.summary()["duplicate"], json!(duplicate));
    }
    assert_eq!(info(&name).await["messages"], json!(50));
}

#[tokio::test]
async fn lines_of_standard_input_are_events() {
    let (name, subject) = stream(&[]).await;
    let mut command = natstream([
        "-s",
        shared_url(),
        "bus",
        "publish",
        &subject,
        "-",
        "--lines",
        "--dedup",
        "off",
    ]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().expect("started");
    let mut input = child.stdin.take().expect("a pipe");
    within(LIMIT, input.write_all(b"one\ntwo\nthree"))
        .await
        .expect("written");
    drop(input);
    testkit::program::end(child).await.exits_with(0);
    assert_eq!(info(&name).await["messages"], json!(3));
}

#[tokio::test]
async fn what_is_not_delivered_is_exit_code_8_with_reasons() {
    let nowhere = unique_subject("nowhere");
    let args = [
        "-s",
        shared_url(),
        "bus",
        "publish",
        &nowhere,
        "--count",
        "20",
        "--deadline",
        "500ms",
    ];
    for mode in ["sync", "async", "batch"] {
        let count = if mode == "sync" { "2" } else { "20" };
        let mut args = args.to_vec();
        args[6] = count;
        let run = run(args.iter().chain(&["--mode", mode])).await.exits_with(8);
        assert!(
            run.stderr.contains(&format!("{count} events were not delivered")),
            "{run:?}"
        );
        assert!(run.stderr.contains("no stream takes the subject"), "{run:?}");
    }
    let (name, subject) = stream(&["--max-messages", "10", "--discard", "new"]).await;
    let args = ["-s", shared_url(), "bus", "publish", &subject, "--count", "25"];
    let full = run(args).await.exits_with(8);
    assert!(
        full.stderr.contains("15 events were not delivered") && full.stderr.contains("full"),
        "{full:?}"
    );
    assert_eq!(info(&name).await["messages"], json!(10));
}

#[tokio::test]
async fn streams_are_made_compared_listed_and_removed() {
    let (name, subject) = stream(&["--max-age", "1h"]).await;
    let add = |more: &'static [&'static str]| {
        let mut command = natstream([
            "-s",
            shared_url(),
            "bus",
            "stream",
            "add",
            &name,
            "--subjects",
            &subject,
        ]);
        command.args(more);
        command
    };
    finish(&mut add(&["--max-age", "1h"])).await.exits_with(0);
    let differs = finish(&mut add(&["--max-age", "30m"])).await.exits_with(1);
    assert!(
        differs.stderr.contains("max_age") && differs.stderr.contains("--update any"),
        "{differs:?}"
    );
    finish(&mut add(&["--max-age", "30m", "--update", "harmless"]))
        .await
        .exits_with(1);
    finish(&mut add(&["--max-age", "30m", "--update", "any"]))
        .await
        .exits_with(0);
    assert_eq!(info(&name).await["config"]["max_age"], json!(1_800_000_000_000_u64));
    let list = run(["-s", shared_url(), "bus", "stream", "ls"]).await.exits_with(0);
    assert!(list.lines().iter().any(|line| line.contains(&name)), "{list:?}");
    run(["-s", shared_url(), "bus", "stream", "rm", &name])
        .await
        .exits_with(0);
    let gone = run(["-s", shared_url(), "bus", "stream", "info", &name])
        .await
        .exits_with(1);
    assert!(gone.stderr.contains("no such stream"), "{gone:?}");
}

#[tokio::test]
async fn without_jetstream_that_is_said() {
    let nats = NatsServer::start().await;
    let ls = run(["-s", &nats.url(), "bus", "stream", "ls"]).await.exits_with(3);
    assert!(ls.stderr.contains("JetStream is not enabled"), "{ls:?}");
}
