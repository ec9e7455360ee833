//! `natstream bench`: load that checks itself.

use testkit::{NatsServer, within};

use crate::support::{LIMIT, finish, natstream, run};

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
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
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

#[tokio::test]
async fn items_without_room_for_a_number_are_refused() {
    for args in [
        ["--size", "7"],
        ["--calls", "0"],
        ["--connections", "0"],
        ["--duration", "0s"],
    ] {
        run(["bench", "stream"].into_iter().chain(args)).await.exits_with(2);
    }
}
