//! `natstream bench`: load that checks itself.

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{NatsServer, within};

use crate::support::{LIMIT, Listening, Run, finish, natstream, run, signal};

#[tokio::test]
async fn streams_are_measured_and_whole() {
    let args = [
        "bench",
        "stream",
        "--duration",
        "500ms",
        "--items",
        "1000",
        "--calls",
        "4",
        "--json",
    ];
    let run = run(args).await.exits_with(0);
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(report["complete"].as_u64() > Some(0), "{report}");
    // The items are those of the time; the four calls that were under way at its end may be complete.
    let counted = report["complete"].as_u64().map(|calls| calls.saturating_sub(4) * 1000);
    assert!(report["items"].as_u64() >= counted, "{report}");
    assert_eq!((&report["failed"], &report["wrong"]), (&0.into(), &0.into()));
    assert_eq!(
        report["bytes"].as_u64(),
        report["items"].as_u64().map(|items| items * 128)
    );
}

#[tokio::test]
async fn there_are_as_many_connections_as_were_asked_for() {
    let (a, b) = (
        within(LIMIT, NatsServer::start()).await,
        within(LIMIT, NatsServer::start()).await,
    );
    let servers = format!("{},{}", a.url(), b.url());
    // Two servers that know nothing of each other: each responder is asked by the callers of its own.
    let args = [
        "-s",
        &servers,
        "bench",
        "stream",
        "--connections",
        "3",
        "--duration",
        "300ms",
    ];
    let run = finish(natstream(args).env_remove("NATS_URL")).await.exits_with(0);
    let table = run.lines().join("\n");
    assert!(
        table.contains("6 of 6 up") && table.contains("complete, 0 failed"),
        "{table}"
    );
}

/// The objects that a run has printed, one in each line.
pub(crate) fn objects(run: &Run) -> Vec<Value> {
    let lines = run.lines();
    lines
        .into_iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// What every load tells of its cost.
pub(crate) fn has_cost(object: &Value) {
    for key in ["seconds", "cpu_seconds", "cpu_ns_each", "bytes_per_second"] {
        assert!(object[key].as_f64() > Some(0.0), "{key}: {object}");
    }
}

/// So many times, whose quantiles are in their order.
pub(crate) fn has_times(times: &Value, count: u64) {
    assert_eq!(times["count"], json!(count), "{times}");
    let values = ["p50", "p90", "p99", "p999", "max"].map(|key| times[key].as_u64());
    assert!(values[0] > Some(0) && values.is_sorted(), "{times}");
}

#[tokio::test]
async fn latency_is_that_of_all_calls() {
    let args = ["bench", "latency", "--calls", "201", "--callers", "4", "--items", "3"];
    let run = run(args.iter().chain(&["--json"])).await.exits_with(0);
    let [report] = &objects(&run)[..] else {
        panic!("{run:?}");
    };
    assert_eq!(
        (
            &report["bench"],
            &report["complete"],
            &report["items"],
            &report["bytes"]
        ),
        (&json!("latency"), &json!(201), &json!(603), &json!(603 * 128))
    );
    assert_eq!((&report["failed"], &report["under_way"]), (&json!(0), &json!(0)));
    has_cost(report);
    has_times(&report["first_item_us"], 201);
    has_times(&report["whole_call_us"], 201);
    assert!(report["calls_per_second"].as_f64() > Some(0.0), "{report}");
}

#[tokio::test]
async fn latency_is_drawn() {
    let run = run(["bench", "latency", "--calls", "20"]).await.exits_with(0);
    let bars = run.lines().iter().filter(|line| line.ends_with('#')).count();
    assert!(bars >= 2, "{:?}", run.lines());
}

#[tokio::test]
async fn streams_at_once_are_all_complete() {
    let args = [
        "--json",
        "bench",
        "concurrency",
        "--streams",
        "1,7,300",
        "--items",
        "600",
    ];
    let run = run(args.iter().chain(&["--connections", "2"])).await.exits_with(0);
    let rows = objects(&run);
    let expected = [(1_u64, 600_u64), (7, 86), (300, 2)];
    assert_eq!(rows.len(), expected.len(), "{run:?}");
    for (row, (streams, each)) in rows.iter().zip(expected) {
        assert_eq!(
            (&row["streams"], &row["complete"], &row["failed"]),
            (&json!(streams), &json!(streams), &json!(0))
        );
        assert_eq!(
            (&row["items_of_each"], &row["items"]),
            (&json!(each), &json!(streams * each))
        );
        has_cost(row);
        has_times(&row["first_item_us"], streams);
        has_times(&row["whole_call_us"], streams);
    }
}

#[tokio::test]
async fn a_line_of_the_table_for_each_number_of_streams() {
    let args = ["bench", "concurrency", "--streams", "2,3", "--items", "10"];
    let run = run(args).await.exits_with(0);
    let lines = run.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let firsts: Vec<_> = lines[1..]
        .iter()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(firsts, ["2", "3"]);
}

#[tokio::test]
async fn without_a_server_nothing_is_measured() {
    for load in ["bus", "concurrency", "consume", "latency", "stream"] {
        let args = ["-s", "nats://127.0.0.1:1", "--timeout", "1s", "bench", load];
        let run = run(args).await.exits_with(6);
        assert!(run.stdout.is_empty(), "{run:?}");
    }
}

#[tokio::test]
async fn interrupted_calls_are_no_result() {
    let loads: [&[&str]; 2] = [&["stream", "--duration", "10m"], &["latency", "--calls", "1000000000"]];
    for load in loads {
        let args: Vec<_> = ["bench"].iter().chain(load).copied().collect();
        // The line of the first second.
        let running = Listening::start(&args, "1 s:").await;
        signal(&running.child, Signal::INT);
        let run = running.end().await.exits_with(130);
        assert!(run.stdout.is_empty(), "{run:?}");
    }
}

#[tokio::test]
async fn loads_that_make_no_sense_are_refused() {
    for args in [
        ["--size", "7"],
        ["--calls", "0"],
        ["--connections", "0"],
        ["--duration", "0s"],
    ] {
        run(["bench", "stream"].into_iter().chain(args)).await.exits_with(2);
    }
    let others: [&[&str]; 8] = [
        &["latency", "--calls", "0"],
        &["latency", "--size", "7"],
        &["concurrency", "--streams", "1,0"],
        &["bus", "--mode", "sideways"],
        &["bus", "--replicas", "6"],
        &["consume", "--count", "0"],
        &["sink", "--size", "1"],
        &["sink", "--count", "1000000000", "--size", "1KiB"],
    ];
    for args in others {
        run(["bench"].iter().chain(args)).await.exits_with(2);
    }
}
