//! Messages that are delivered again, since their acks come late, are lost, or not at all: the files have each of them once.

use std::path::Path;
use std::time::Duration;

use integration::bus::stream;
use integration::recording::verify;
use integration::sinks::directory;
use integration::{LIMIT, connection};
use natstream::eventbus::topology::{ConsumerSpec, Retention, StreamSpec, Topology};
use natstream::recorder::{StreamRecorder, StreamRecording};
use natstream::sinks::{Format, RecordReader, RollingWriter, Sync};
use natstream::{Bus, Connection, Event};
use testkit::{Proxy, settles_where, shared_url, unique_name, within};

/// Short, so that it runs out many times.
const ACK_WAIT: Duration = Duration::from_millis(200);

/// A stream with `from..to` in it, each number a message.
async fn publish(connection: &Connection, name: &str, numbers: std::ops::Range<u64>) {
    let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
    for number in numbers {
        let event = Event::new(format!("{name}.x"), number.to_string());
        within(LIMIT, bus.enqueue(event)).await.expect("accepted");
    }
    within(LIMIT, bus.flush(LIMIT)).await.expect("all acked");
}

async fn record(connection: &Connection, name: &str, dir: &Path, commit_interval: Duration) -> StreamRecording {
    let files = RollingWriter::builder(dir, "x")
        .format(Format::json_lines())
        .sync(Sync::Commit)
        // Nothing is written before it is asked for.
        .flush_interval(Duration::from_secs(3600));
    let spec = ConsumerSpec::new(name, "recorder").ack_wait(ACK_WAIT);
    let recorder = StreamRecorder::new(files, "jsonl")
        .slots(1000)
        .commit_interval(commit_interval);
    within(LIMIT, recorder.record(connection.clone(), spec))
        .await
        .expect("recording")
}

/// Waits until so many messages are in the sink.
async fn recorded(recording: &StreamRecording, count: u64) {
    let stats = || std::future::ready(recording.stats());
    settles_where(LIMIT, stats, |stats| stats.recorded >= count).await;
}

/// Waits until nats-server has delivered some of them again, which nobody acks.
async fn delivered_again(connection: &Connection, name: &str) {
    let topology = Topology::new(connection.clone());
    let info = || async { topology.consumer(name, "recorder").await.expect("info") };
    settles_where(LIMIT, info, |info| info.redelivered > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_whose_acks_come_late_are_recorded_once() {
    let connection = connection(shared_url()).await;
    let name = unique_name("REDELIVERY");
    stream(&connection, StreamSpec::new(&name, [format!("{name}.>")])).await;
    publish(&connection, &name, 0..300).await;
    let (_guard, dir) = directory();
    // No commit but at the end: half of the slots are not reached.
    let recording = record(&connection, &name, &dir, Duration::from_secs(3600)).await;
    recorded(&recording, 300).await;
    delivered_again(&connection, &name).await;
    publish(&connection, &name, 300..400).await;
    recorded(&recording, 400).await;
    delivered_again(&connection, &name).await;
    let end = within(LIMIT, recording.stop()).await.expect("stopped");
    assert_eq!(
        (end.stats.recorded, end.stats.committed, end.stats.position),
        (400, 400, 400)
    );
    assert!(end.confirmed);
    verify(&connection, &name, &dir, 400).await;
    let info = Topology::new(connection)
        .consumer(&name, "recorder")
        .await
        .expect("info");
    assert_eq!((info.ack_floor, info.ack_pending), (400, 0));
}

/// Each message is acked by itself there, and leaves the stream then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_work_queue_is_emptied_into_the_files() {
    let connection = connection(shared_url()).await;
    let name = unique_name("QUEUE");
    let spec = StreamSpec::new(&name, [format!("{name}.>")]).retention(Retention::WorkQueue);
    stream(&connection, spec).await;
    publish(&connection, &name, 0..300).await;
    let (_guard, dir) = directory();
    let recording = record(&connection, &name, &dir, Duration::from_secs(3600)).await;
    recorded(&recording, 300).await;
    delivered_again(&connection, &name).await;
    let end = within(LIMIT, recording.stop()).await.expect("stopped");
    assert_eq!((end.stats.recorded, end.stats.missed, end.confirmed), (300, 0, true));
    let again = record(&connection, &name, &dir, Duration::from_millis(10)).await;
    publish(&connection, &name, 300..350).await;
    recorded(&again, 50).await;
    let end = within(LIMIT, again.stop()).await.expect("stopped");
    assert_eq!((end.stats.recorded, end.stats.position), (50, 350));
    let info = Topology::new(connection).info(&name).await.expect("info");
    assert_eq!(info.messages, 0, "all were acked");
    let mut found = Vec::new();
    for file in natstream::recorder::RecordedFiles::list(&dir).expect("files").closed {
        let reader = RecordReader::open(&file, natstream::sinks::ReadFormat::JsonLines).expect("readable");
        found.extend(reader.map(|record| record.expect("whole").sequence.expect("a sequence")));
    }
    assert!(found.into_iter().eq(1..=350));
}

/// Acks and deliveries are lost on their way, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_repeat_nothing() {
    let direct = connection(shared_url()).await;
    let proxy = Proxy::start(shared_url().trim_start_matches("nats://")).await;
    let through = connection(&proxy.url()).await;
    let name = unique_name("BREAKS");
    stream(&direct, StreamSpec::new(&name, [format!("{name}.>")])).await;
    let (_guard, dir) = directory();
    let recording = record(&through, &name, &dir, Duration::from_millis(2)).await;
    for round in 0..10 {
        let numbers = round * 500..(round + 1) * 500;
        publish(&direct, &name, numbers.clone()).await;
        recorded(&recording, numbers.start + 100).await;
        proxy.cut();
    }
    recorded(&recording, 5000).await;
    let end = within(LIMIT, recording.stop()).await.expect("stopped");
    assert_eq!((end.stats.recorded, end.stats.position), (5000, 5000));
    assert!(end.stats.reconnects > 0);
    verify(&direct, &name, &dir, 5000).await;
}
