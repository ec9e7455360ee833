//! Figures as metrics: what the recorder gets of things that have done something.

use std::collections::BTreeMap;
use std::time::Duration;

use integration::bus::stream;
use integration::{LIMIT, Peers, connection};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use natstream::eventbus::topology::{ConsumerSpec, StreamSpec};
use natstream::eventbus::{Consumer, FastBus, HandlerError as ConsumeFailure};
use natstream::metrics::{Observe, describe, observe};
use natstream::recorder::{Recorder, StreamRecording};
use natstream::sinks::RollingWriter;
use natstream::{Bus, ConnectConfig, Connection, Connections, Event, HandlerError, Outbox, Pool};
use testkit::{settles, shared_url, unique_name, unique_subject, within};

/// All values by name and labels; of histograms, how many they have.
fn values(recorder: &DebuggingRecorder) -> BTreeMap<String, f64> {
    let all = recorder.snapshotter().snapshot().into_vec();
    let values = all.into_iter().map(|(key, _, help, value)| {
        let (_, key) = key.into_parts();
        assert!(help.is_some(), "{} is not described", key.name());
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(level) => level.into_inner(),
            DebugValue::Histogram(samples) => samples.len() as f64,
        };
        (format!("{}{{{}}}", key.name(), labels.join(",")), value)
    });
    values.collect()
}

#[test]
fn what_was_done_is_in_the_metrics() {
    let recorder = DebuggingRecorder::new();
    // Of this thread alone, where all of it runs.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    metrics::with_local_recorder(&recorder, || {
        describe();
        runtime.expect("a runtime").block_on(work());
    });
    let values = values(&recorder);
    let expected = [
        ("natstream_connection_up{connection=main}", 1.0),
        ("natstream_connection_reconnects_total{connection=main}", 0.0),
        ("natstream_pool_attempts_total{pool=callers}", 2.0),
        ("natstream_pool_items_total{pool=callers}", 1.0),
        ("natstream_pool_requests_total{pool=callers}", 1.0),
        ("natstream_pool_call_duration_seconds{outcome=complete}", 1.0),
        ("natstream_pool_call_duration_seconds{outcome=incomplete}", 1.0),
        ("natstream_pool_request_duration_seconds{outcome=incomplete}", 1.0),
        ("natstream_pool_first_item_seconds{}", 1.0),
        ("natstream_server_ready{server=s}", 1.0),
        ("natstream_server_finished_total{server=s,endpoint=e}", 1.0),
        ("natstream_server_items_bytes_total{server=s,endpoint=e}", 3.0),
        ("natstream_server_errors_total{server=s,endpoint=e,code=NOT_FOUND}", 1.0),
        ("natstream_server_call_duration_seconds{endpoint=e}", 2.0),
        ("natstream_bus_acked_events_total{bus=b}", 1.0),
        ("natstream_bus_pending_events{bus=b}", 0.0),
    ];
    for (name, value) in expected {
        assert_eq!(values.get(name), Some(&value), "{name} in {values:#?}");
    }
    let handled = values
        .iter()
        .find(|(name, _)| name.starts_with("natstream_consumer_handled_messages_total{"));
    let (name, value) = handled.expect("the consumer");
    assert!(name.contains("consumer=c") && *value == 1.0, "{name}");
}

#[test]
fn everything_with_figures_can_be_observed() {
    fn check<T: Observe>() {}
    check::<Connection>();
    check::<Consumer>();
    check::<FastBus>();
    check::<Pool>();
    check::<StreamRecording>();

    let recorder = DebuggingRecorder::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    metrics::with_local_recorder(&recorder, || {
        describe();
        runtime.expect("a runtime").block_on(others());
    });
    let values = values(&recorder);
    for (name, value) in [
        ("natstream_connections_up{connections=set}", 1.0),
        ("natstream_outbox_spooled_events{outbox=o}", 1.0),
        ("natstream_recording_received_messages_total{recording=r}", 0.0),
        ("natstream_sink_accepted_records_total{sink=r}", 0.0),
        ("natstream_subscription_in_progress{subscription=s}", 0.0),
        ("natstream_server_active_calls{server=d,endpoint=slow}", 0.0),
        ("natstream_server_failed_total{server=d,endpoint=slow}", 1.0),
    ] {
        assert_eq!(values.get(name), Some(&value), "{name} in {values:#?}");
    }
}

/// A server that drains names no endpoints, and they go on counting.
async fn drained() {
    let (peers, subject) = (Peers::connect().await, unique_subject("observe"));
    let wait = peers.server.on(&subject, |_, out| async move {
        out.closed().await;
        Ok(())
    });
    let endpoint = within(LIMIT, wait.name("slow")).await.expect("served");
    let _call = within(LIMIT, peers.pool.request_stream(&subject, ""))
        .await
        .expect("sent");
    settles(LIMIT, || async { endpoint.stats().active }, 1).await;
    observe("d", &peers.server);
    within(LIMIT, peers.server.drain(Duration::ZERO)).await;
    settles(LIMIT, || async { endpoint.stats().active }, 0).await;
    observe("d", &endpoint);
}

async fn others() {
    drained().await;
    let dir = tempfile::tempdir().expect("a directory");
    let connections = Connections::builder(ConnectConfig::new(shared_url())).warm_up();
    let connections = within(LIMIT, connections.connect()).await.expect("connected");
    observe("set", &connections);

    let outbox = within(LIMIT, Outbox::builder(dir.path().join("outbox")).open())
        .await
        .expect("open");
    within(LIMIT, outbox.enqueue(Event::new("a", "x")))
        .await
        .expect("written");
    observe("o", &outbox);

    let peers = Peers::connect().await;
    let subscription = peers.server.on_message(unique_subject("observe"), |_| async { Ok(()) });
    observe("s", &within(LIMIT, subscription).await.expect("served"));

    let writer = RollingWriter::builder(dir.path().join("files"), "r")
        .open()
        .expect("open");
    let connection = connection(shared_url()).await;
    let (recorder, subject) = (Recorder::new(writer.clone()), unique_subject("observe"));
    let recording = recorder.subscribe(&connection, &subject, None);
    let recording = within(LIMIT, recording).await.expect("subscribed");
    observe("r", &recording);
    observe("r", &writer);
    within(LIMIT, recording.stop(LIMIT)).await.expect("ended");
}

async fn work() {
    let (peers, subject) = (Peers::connect().await, unique_subject("observe"));
    let answer = peers.server.on(&subject, |request, mut out| async move {
        match &request.payload()[..] {
            b"fail" => Err(HandlerError::not_found("no such thing")),
            _ => Ok(out.send("one").await?),
        }
    });
    let endpoint = within(LIMIT, answer.name("e")).await.expect("served");
    for payload in ["", "fail"] {
        let responses = within(LIMIT, peers.pool.request_stream(&subject, payload))
            .await
            .expect("sent");
        let _ = within(LIMIT, responses.collect_all(1000)).await;
    }
    let nobody = unique_subject("observe");
    assert!(
        within(LIMIT, peers.pool.request(nobody, "").timeout(Duration::from_secs(20)))
            .await
            .is_err()
    );
    settles(LIMIT, || async { endpoint.stats().active }, 0).await;

    let connection = connection(shared_url()).await;
    let (name, subject) = (unique_name("OBSERVE"), unique_subject("observe"));
    stream(&connection, StreamSpec::new(&name, [subject.as_str()])).await;
    let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
    within(LIMIT, bus.publish(Event::new(subject, "x")))
        .await
        .expect("acked");
    let builder = Consumer::builder(connection.clone(), ConsumerSpec::new(&name, "c")).limit(1);
    let consumer = within(LIMIT, builder.open()).await.expect("open");
    let handled = consumer.for_each(|_| async { Ok::<_, ConsumeFailure>(()) });
    within(LIMIT, handled).await.expect("handled");

    observe("main", &connection);
    observe("callers", &peers.pool);
    observe("s", &peers.server);
    observe("b", &bus);
    observe("c", &consumer);
}
