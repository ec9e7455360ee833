//! Configuration, discovery and figures.

use testkit::ConsulServer;
use tokio::runtime::Runtime;

use crate::{run, run_with};

/// Where nobody listens.
const NOWHERE: &str = "127.0.0.1:1";

#[test]
fn configuration() {
    run("configuration").has(&[
        "limits.rate is Some(100)",
        "raised to 120",
        "limits.rate becomes Some(110)",
        "limits.rate becomes None",
    ]);
}

#[test]
fn connections() {
    run("connections").has(&[
        "2 connections to begin with",
        "4 connections for many calls, all of them counted: true",
        "0 in flight in the end",
        "0 leases were still held",
    ]);
}

#[test]
fn consul() {
    let server = testkit::shared_url();
    let connected = format!("connected to {server}");
    let runtime = Runtime::new().expect("a runtime");
    let consul = runtime.block_on(ConsulServer::start());
    consul.set("nats-service", [server]);
    // The configured server is not there, and Consul names one that is.
    let nowhere = format!("nats://{NOWHERE}");
    let env = [("CONSUL_HTTP_ADDR", &*consul.url()), ("NATS_URL", &*nowhere)];
    run_with("consul", &env).has(&["asked for nats-service", &connected]);
    assert!(consul.requests() > 0);
    // Consul is not there, and the configured server is.
    run_with("consul", &[("CONSUL_HTTP_ADDR", NOWHERE)]).has(&[&connected]);
}

#[test]
fn discovery() {
    let shown = run("discovery");
    shown.has(&[
        "10 requests, shared by both",
        "asked for itself, it answers: true",
        "later: Some(NoResponders)",
    ]);
    let services = shown.text.matches("version 1.2.3, known: true\n  examples.discovery\n");
    assert_eq!(services.count(), 2, "{}", shown.text);
}

#[test]
fn monitoring() {
    run("monitoring").has(&[
        "examples.monitoring: sent 100, error None",
        "examples.monitoring: sent 0, error Some(InvalidArgument)",
        "endpoint: 10 finished, 1 failed, 1 cancelled",
        "errors: [(InvalidArgument, 1)]",
        "pool: 12 attempts, 0 in flight, 0 retries",
        "connection: up true, since its epoch 1",
    ]);
}

#[test]
fn settings() {
    let shown = run("settings");
    shown.has(&[
        "name = orders-example (the program)",
        "(NATS_URL)",
        "timeout = 10s",
        "max_reconnect = 10",
        "connected: true",
    ]);
    assert!(!shown.text.contains("not to be shown"), "{}", shown.text);
}
