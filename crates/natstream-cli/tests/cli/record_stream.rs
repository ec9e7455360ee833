//! `natstream record --stream`, and `record verify --stream`.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::bus::stream;
use crate::support::{Listening, Run, finish, natstream, signal};

const FORMAT: [&str; 2] = ["--format", "jsonl"];

fn record<'a>(stream: &'a str, dir: &'a Path, durable: &'a str) -> Vec<&'a str> {
    let dir = dir.to_str().expect("text");
    let args = [
        "record",
        "--stream",
        stream,
        "--durable",
        durable,
        "--dir",
        dir,
        "--name",
        "x",
        "--json",
    ];
    [&args[..], &FORMAT].concat()
}

async fn publish(subject: &str, count: u32) {
    let args = ["bus", "publish", subject, "--count", &count.to_string(), "--json"];
    finish(&mut natstream(args)).await.exits_with(0);
}

async fn verify(dir: &Path, stream: &str) -> Run {
    let args = ["record", "verify", "--json", "--payloads", "--stream", stream];
    finish(natstream(args).arg(dir)).await
}

#[tokio::test]
async fn a_killed_recording_goes_on_and_verifies() {
    let (name, subject) = stream(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    publish(&subject, 3000).await;
    let recording = Listening::start(&record(&name, dir.path(), "archive"), "recording ").await;
    signal(&recording.child, Signal::KILL);
    recording.end().await;
    let run = finish(&mut natstream(
        [&record(&name, dir.path(), "archive")[..], &["--idle-timeout", "1s"]].concat(),
    ))
    .await
    .exits_with(0);
    let summary = run.summary();
    assert_eq!(
        (&summary["position"], &summary["confirmed"]),
        (&json!(3000), &json!(true))
    );
    let run = verify(dir.path(), &name).await.exits_with(0);
    let found = &run.summary()["streams"][0];
    assert_eq!(
        (&found["matched"], &found["missing"], &found["payloads"]),
        (&json!(3000), &json!(0), &json!(3000))
    );
    // One that is gone is a hole.
    let day = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let day = day
        .into_iter()
        .find(|path| path.is_dir())
        .expect("a directory of a day");
    fs::remove_dir_all(day).unwrap();
    verify(dir.path(), &name).await.exits_with(5);
}

#[tokio::test]
async fn a_directory_of_another_consumer_is_refused() {
    let (name, subject) = stream(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    publish(&subject, 10).await;
    let args = record(&name, dir.path(), "archive");
    let ended = finish(&mut natstream([&args[..], &["--max-items", "10"]].concat()))
        .await
        .exits_with(0);
    assert_eq!(ended.summary()["messages"], 10);
    finish(&mut natstream(record(&name, dir.path(), "other")))
        .await
        .exits_with(2);
    finish(&mut natstream(record("NONE-SUCH", dir.path(), "archive")))
        .await
        .exits_with(1);
    let run = verify(dir.path(), "NONE-SUCH").await;
    run.exits_with(2);
}

#[tokio::test]
async fn options_that_do_not_fit_are_usage_errors() {
    for args in [
        &["record", "--stream", "S", "--dir", "d", "--name", "x"][..],
        &["record", "--durable", "c", "--dir", "d", "--name", "x", "a.b"],
        &[
            "record",
            "--stream",
            "S",
            "--durable",
            "c",
            "--queue",
            "q",
            "--dir",
            "d",
            "--name",
            "x",
        ],
        &["record", "--dir", "d", "--name", "x"],
        &["record", "a", "b", "--dir", "d", "--name", "x"],
        &["record", "verify", "d", "--payloads"],
    ] {
        finish(&mut natstream(args)).await.exits_with(2);
    }
}
