//! `natstream bench bus` and `consume`: all their events, and no stream afterwards.

use rustix::process::Signal;
use serde_json::json;
use testkit::{NatsServer, within};

use crate::bench::{has_cost, has_times, objects};
use crate::support::{LIMIT, Listening, Run, finish, natstream, run, signal};

/// One of its own: what is left behind is seen there.
async fn server() -> NatsServer {
    within(LIMIT, NatsServer::builder().jetstream(true).start()).await
}

async fn bench(server: &NatsServer, args: &[&str]) -> Run {
    let url = server.url();
    let all = ["-s", &url, "bench"].into_iter().chain(args.iter().copied());
    finish(natstream(all).env_remove("NATS_URL")).await
}

async fn has_no_stream(server: &NatsServer) {
    let url = server.url();
    let list = run(["-s", &url, "--json", "bus", "stream", "ls"]).await.exits_with(0);
    assert!(list.stdout.is_empty(), "{list:?}");
}

#[tokio::test]
async fn every_mode_has_all_its_events() {
    let server = server().await;
    for more in [&["--storage", "file"][..], &["--ids", "--connections", "3"]] {
        let args = [
            "--json",
            "bus",
            "--mode",
            "async,fast,sync",
            "--count",
            "301",
            "--size",
            "64",
        ];
        let args: Vec<_> = args.iter().chain(more).copied().collect();
        let run = bench(&server, &args).await.exits_with(0);
        let rows = objects(&run);
        let modes: Vec<_> = rows.iter().map(|row| row["mode"].as_str().unwrap()).collect();
        assert_eq!(modes, ["async", "fast", "sync"]);
        for row in &rows {
            assert_eq!(
                (&row["bench"], &row["count"], &row["duplicates"], &row["retried"]),
                (&json!("bus"), &json!(301), &json!(0), &json!(0))
            );
            assert_eq!(row["size"], json!(64));
            assert!(row["events_per_second"].as_f64() > Some(0.0), "{row}");
            has_cost(row);
        }
        has_times(&rows[2]["ack_us"], 301);
        assert_eq!(rows[0]["ack_us"], json!(null));
        has_no_stream(&server).await;
    }
}

#[tokio::test]
async fn a_time_bounds_what_no_number_does() {
    let server = server().await;
    let args = ["--json", "bus", "--mode", "async,sync", "--duration", "200ms"];
    let run = bench(&server, &args).await.exits_with(0);
    let rows = objects(&run);
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert!(
            row["count"].as_u64() > Some(0) && row["seconds"].as_f64() >= Some(0.2),
            "{row}"
        );
    }
    has_times(&rows[1]["ack_us"], rows[1]["count"].as_u64().unwrap());
    has_no_stream(&server).await;
}

#[tokio::test]
async fn one_by_one_is_drawn() {
    let server = server().await;
    let run = bench(&server, &["bus", "--mode", "sync", "--count", "50"])
        .await
        .exits_with(0);
    assert!(run.lines().iter().any(|line| line.ends_with('#')), "{:?}", run.lines());
}

#[tokio::test]
async fn every_message_is_consumed_in_each_way() {
    let server = server().await;
    for more in [&["--storage", "file"][..], &["--connections", "3", "--batch", "10"]] {
        let args = ["--json", "consume", "--count", "1003", "--size", "0"];
        let args: Vec<_> = args.iter().chain(more).copied().collect();
        let run = bench(&server, &args).await.exits_with(0);
        let rows = objects(&run);
        let ways: Vec<_> = rows.iter().map(|row| row["way"].as_str().unwrap()).collect();
        assert_eq!(ways, ["each", "batch"]);
        for row in &rows {
            assert_eq!((&row["bench"], &row["count"]), (&json!("consume"), &json!(1003)));
            assert!(row["messages_per_second"].as_f64() > Some(0.0), "{row}");
            assert!(row["cpu_ns_each"].as_f64() > Some(0.0), "{row}");
        }
        has_no_stream(&server).await;
    }
}

#[tokio::test]
async fn an_interrupt_removes_the_stream() {
    let server = server().await;
    let url = server.url();
    for load in ["bus", "consume"] {
        let args = ["-s", &url, "bench", load, "--count", "1000000000"];
        let running = Listening::start(&args, "using the stream ").await;
        signal(&running.child, Signal::INT);
        let run = running.end().await.exits_with(130);
        assert!(run.stdout.is_empty(), "{run:?}");
        has_no_stream(&server).await;
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_no_figure() {
    let server = server().await;
    for load in ["bus", "consume"] {
        // More than nats-server takes in a message.
        let run = bench(&server, &["--json", load, "--count", "3", "--size", "2MiB"])
            .await
            .exits_with(8);
        assert!(run.stdout.is_empty(), "{run:?}");
        has_no_stream(&server).await;
    }
}

#[tokio::test]
async fn without_jetstream_nothing_is_measured() {
    let server = within(LIMIT, NatsServer::start()).await;
    for load in ["bus", "consume"] {
        let run = bench(&server, &[load]).await.exits_with(3);
        assert!(run.stdout.is_empty() && run.stderr.contains("hint: "), "{run:?}");
    }
}

/// A server whose user `u` may not publish to this subject.
async fn denying(subject: &str) -> NatsServer {
    let config = format!(
        r#"authorization {{ users: [
            {{ user: u, password: p, permissions: {{ publish: {{ deny: ["{subject}"] }} }} }}
            {{ user: all, password: p }}
        ] }}"#
    );
    within(LIMIT, NatsServer::builder().jetstream(true).config(config).start()).await
}

#[tokio::test]
async fn who_may_make_no_stream_is_told() {
    let server = denying("$JS.API.STREAM.CREATE.>").await;
    for load in ["bus", "consume"] {
        let run = bench(&server, &["--user", "u", "--password", "p", load])
            .await
            .exits_with(7);
        assert!(run.stdout.is_empty(), "{run:?}");
    }
}

#[tokio::test]
async fn who_may_not_publish_is_told() {
    let server = denying("natstream.bench.>").await;
    let loads: [&[&str]; 5] = [
        &["bus", "--mode", "async"],
        &["bus", "--mode", "fast"],
        &["bus", "--mode", "sync"],
        &["consume"],
        &["latency"],
    ];
    for load in loads {
        let args: Vec<_> = ["--user", "u", "--password", "p"].iter().chain(load).copied().collect();
        bench(&server, &args).await.exits_with(7);
    }
}

#[tokio::test]
async fn a_stream_that_stays_is_told() {
    let server = denying("$JS.API.STREAM.DELETE.>").await;
    let args = [
        "--user",
        "u",
        "--password",
        "p",
        "bus",
        "--mode",
        "async",
        "--count",
        "3",
    ];
    let run = bench(&server, &args).await.exits_with(7);
    let url = server.url();
    let list = [
        "-s",
        &url,
        "--user",
        "all",
        "--password",
        "p",
        "--json",
        "bus",
        "stream",
        "ls",
    ];
    let list = finish(natstream(list).env_remove("NATS_URL")).await.exits_with(0);
    let [stream] = &objects(&list)[..] else {
        panic!("{list:?}");
    };
    assert!(run.stderr.contains(stream["name"].as_str().unwrap()), "{run:?}");
}
