//! `natstream bench sink`: all its lines, and no files afterwards.

use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::bench::{has_cost, objects};
use crate::support::{Listening, run, signal};

fn is_empty(dir: &Path) -> bool {
    dir.read_dir().unwrap().next().is_none()
}

#[tokio::test]
async fn every_line_is_in_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    for sync in ["none", "interval:10ms", "commit"] {
        let args = [
            "--json", "bench", "sink", "--dir", path, "--count", "5003", "--size", "100",
        ];
        let run = run(args.iter().chain(&["--producers", "3", "--sync", sync]))
            .await
            .exits_with(0);
        let [row] = &objects(&run)[..] else {
            panic!("{run:?}");
        };
        assert_eq!(
            (&row["bench"], &row["lines"], &row["bytes"], &row["producers"]),
            (&json!("sink"), &json!(5003), &json!(500_300), &json!(3))
        );
        assert!(
            row["files"].as_u64() > Some(0) && row["lines_per_second"].as_f64() > Some(0.0),
            "{row}"
        );
        has_cost(row);
        assert!(is_empty(dir.path()));
    }
}

#[tokio::test]
async fn an_interrupt_removes_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let args = [
        "bench",
        "sink",
        "--dir",
        path,
        "--count",
        "8000000000",
        "--size",
        "2",
        "--sync",
        "commit",
    ];
    let running = Listening::start(&args, "writing to ").await;
    signal(&running.child, Signal::INT);
    let run = running.end().await.exits_with(130);
    assert!(run.stdout.is_empty() && is_empty(dir.path()), "{run:?}");
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing");
    run(["bench", "sink", "--dir", path.to_str().unwrap()])
        .await
        .exits_with(2);
}
