//! Where a recording of a stream goes on, on a real nats-server.
#![cfg(feature = "jetstream")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use eventbus::topology::{ConsumerSpec, StreamSpec, Topology};
use eventbus::{Bus, Event};
use natstream_connect::{ConnectConfig, Connection};
use natstream_recorder::{
    ManifestLog, RecordedFiles, StreamRecordErrorKind, StreamRecorder, StreamRecording, StreamRecordingEnd,
    StreamVerifier,
};
use stream_sinks::{CrashImage, Fault, Format, Retention, RollingWriter, RollingWriterBuilder, Rotation, Sync};
use testkit::{settles_where, shared_url, unique_name, within};

const LIMIT: Duration = Duration::from_secs(60);

struct World {
    connection: Connection,
    bus: Bus,
    stream: String,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(|spec| spec).await
    }

    async fn with(change: impl FnOnce(StreamSpec) -> StreamSpec) -> Self {
        let connecting = Connection::connect(ConnectConfig::new(shared_url()));
        let connection = within(LIMIT, connecting).await.expect("connected");
        let stream = unique_name("RECORD");
        let spec = change(StreamSpec::new(&stream, [format!("{stream}.>")]));
        let topology = Topology::new(connection.clone());
        within(LIMIT, topology.ensure(&spec)).await.expect("a stream");
        Self {
            bus: within(LIMIT, Bus::open(connection.clone())).await.expect("open"),
            connection,
            stream,
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    async fn publish(&self, count: u64) {
        for number in 0..count {
            let event = Event::new(format!("{}.x", self.stream), format!("message {number}"));
            within(LIMIT, self.bus.enqueue(event)).await.expect("accepted");
        }
        within(LIMIT, self.bus.flush(LIMIT)).await.expect("all acked");
    }

    fn files(&self) -> RollingWriterBuilder {
        files(self.dir.path())
    }

    fn spec(&self, durable: &str) -> ConsumerSpec {
        ConsumerSpec::new(&self.stream, durable)
    }

    async fn begin(&self, files: RollingWriterBuilder) -> StreamRecording {
        let recorder = StreamRecorder::new(files, "jsonl").commit_interval(Duration::from_millis(5));
        let recording = recorder.record(self.connection.clone(), self.spec("recorder"));
        within(LIMIT, recording).await.expect("recording")
    }

    /// Records up to this message, and ends.
    async fn record(&self, files: RollingWriterBuilder, last: u64) -> StreamRecordingEnd {
        let recording = self.begin(files).await;
        safe(&recording, last).await;
        within(LIMIT, recording.stop()).await.expect("stopped")
    }

    async fn refused(&self, durable: &str) -> StreamRecordErrorKind {
        self.refused_as(self.spec(durable)).await
    }

    async fn refused_as(&self, spec: ConsumerSpec) -> StreamRecordErrorKind {
        let recorder = StreamRecorder::new(self.files(), "jsonl");
        let recording = recorder.record(self.connection.clone(), spec);
        within(LIMIT, recording).await.expect_err("refused").kind()
    }

    /// All messages up to `last` are in the files, once.
    async fn whole(&self, dir: &Path, last: u64) {
        let verifier = StreamVerifier::new(self.connection.clone(), &self.stream).payloads();
        let verified = within(LIMIT, verifier.verify(dir)).await.expect("compared");
        assert!(verified.is_whole(), "{verified:?}");
        assert_eq!(verified.recorders[0].matched, last, "{verified:?}");
    }
}

fn files(dir: &Path) -> RollingWriterBuilder {
    RollingWriter::builder(dir, "x")
        .format(Format::json_lines())
        .sync(Sync::Commit)
        .rotation(Rotation::size(5_000))
}

async fn safe(recording: &StreamRecording, last: u64) {
    let stats = || std::future::ready(recording.stats());
    settles_where(LIMIT, stats, |stats| stats.position >= last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_has_one_consumer_of_one_stream() {
    let world = World::new().await;
    world.publish(10).await;
    let end = world.record(world.files(), 10).await;
    assert_eq!((end.stats.recorded, end.confirmed), (10, true));
    assert_eq!(world.refused("other").await, StreamRecordErrorKind::Foreign);
    let topology = Topology::new(world.connection.clone());
    let consumers = within(LIMIT, topology.info(&world.stream))
        .await
        .expect("info")
        .consumers;
    assert_eq!(consumers, 1, "none was made for a directory that cannot be");
    // The same name, and another stream.
    within(LIMIT, topology.delete(&world.stream)).await.expect("deleted");
    assert_eq!(world.refused("recorder").await, StreamRecordErrorKind::Stream);
    let spec = StreamSpec::new(&world.stream, [format!("{}.>", world.stream)]);
    within(LIMIT, topology.ensure(&spec)).await.expect("a stream");
    world.publish(20).await;
    assert_eq!(world.refused("recorder").await, StreamRecordErrorKind::Foreign);
    let verifier = StreamVerifier::new(world.connection.clone(), &world.stream);
    let compared = within(LIMIT, verifier.verify(world.dir.path())).await;
    assert_eq!(
        compared.expect_err("another stream").kind(),
        StreamRecordErrorKind::Foreign
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_something_else_are_left_alone() {
    let world = World::new().await;
    let manifests = ManifestLog::new(world.dir.path(), "x", "jsonl");
    let writer = manifests.attach(world.files()).open().expect("opened");
    writer.append_blocking("a record").expect("appended");
    assert_eq!(
        world.refused("recorder").await,
        StreamRecordErrorKind::Sink,
        "it is in use"
    );
    writer.close_blocking().expect("closed");
    assert_eq!(world.refused("recorder").await, StreamRecordErrorKind::Foreign);
    let verifier = StreamVerifier::new(world.connection.clone(), &world.stream);
    let compared = within(LIMIT, verifier.verify(world.dir.path())).await;
    assert_eq!(
        compared.expect_err("no stream").kind(),
        StreamRecordErrorKind::NotRecorded
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_where_all_files_are_gone() {
    let world = World::new().await;
    world.publish(500).await;
    let files = || world.files().retention(Retention::unlimited().max_files(1));
    world.record(files(), 500).await;
    for path in RecordedFiles::list(world.dir.path()).expect("files").closed {
        fs::remove_file(path).expect("removed");
    }
    world.publish(100).await;
    let end = world.record(files(), 600).await;
    assert_eq!((end.stats.recorded, end.stats.missed), (100, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_off_comes_again() {
    let world = World::new().await;
    world.publish(50).await;
    let recording = world.begin(world.files().rotation(Rotation::NEVER)).await;
    safe(&recording, 50).await;
    world.publish(50).await;
    safe(&recording, 100).await;
    // As a kill would leave it, and a disk that has lost its end.
    let left = tempfile::tempdir().expect("a directory");
    copy(world.dir.path(), left.path());
    let part = RecordedFiles::list(left.path()).expect("files").in_progress.remove(0);
    let file = fs::File::options().write(true).open(&part).expect("opened");
    file.set_len(file.metadata().expect("its length").len() - 20)
        .expect("cut");
    within(LIMIT, recording.stop())
        .await
        .expect("stopped, and all is acked");
    let again = world.begin(files(left.path())).await;
    let began = again.stats().position;
    assert!((50..100).contains(&began), "{began}");
    safe(&again, 100).await;
    let end = within(LIMIT, again.stop()).await.expect("stopped");
    assert_eq!((end.stats.recorded, end.stats.position), (100 - began, 100));
    world.whole(left.path(), 100).await;
    world.whole(world.dir.path(), 100).await;
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            fs::create_dir(&target).expect("made");
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_stream_has_removed_is_missed() {
    let world = World::with(|spec| spec.max_messages(50)).await;
    world.publish(10).await;
    world.record(world.files(), 10).await;
    world.publish(200).await;
    let end = world.record(world.files(), 210).await;
    assert_eq!((end.stats.recorded, end.stats.missed, end.stats.deleted), (50, 150, 0));
    world.whole(world.dir.path(), 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_messages_of_the_filter_are_recorded() {
    let world = World::new().await;
    for number in 0..100 {
        let event = Event::new(format!("{}.{}", world.stream, number % 4), number.to_string());
        within(LIMIT, world.bus.enqueue(event)).await.expect("accepted");
    }
    within(LIMIT, world.bus.flush(LIMIT)).await.expect("all acked");
    let spec = world
        .spec("some")
        .filters([format!("{}.1", world.stream), format!("{}.3", world.stream)]);
    let recorder = StreamRecorder::new(world.files(), "jsonl").max_records(50);
    let recording = recorder.record(world.connection.clone(), spec);
    let recording = within(LIMIT, recording).await.expect("recording");
    let end = within(LIMIT, recording.ended()).await.expect("enough");
    assert_eq!((end.stats.recorded, end.stats.position, end.stats.missed), (50, 100, 0));
    world.whole(world.dir.path(), 50).await;
    // It is there now, and stays as it is.
    let other = world.spec("some").filters([format!("{}.2", world.stream)]);
    assert_eq!(world.refused_as(other).await, StreamRecordErrorKind::OtherSubjects);
    let recorder = StreamRecorder::new(world.files(), "jsonl");
    let recording = recorder.record(world.connection.clone(), world.spec("some"));
    let recording = within(LIMIT, recording).await.expect("recording");
    assert_eq!(recording.source().filters.len(), 2);
    within(LIMIT, recording.stop()).await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acked_while_the_disk_is_full() {
    let world = World::new().await;
    world.publish(100).await;
    let image = CrashImage::new();
    let recording = world.begin(world.files().storage(Arc::new(image.clone()))).await;
    safe(&recording, 100).await;
    image.set_fault(Some(Fault::Full(image.used())));
    world.publish(100).await;
    let stats = || std::future::ready(recording.stats());
    settles_where(LIMIT, stats, |stats| stats.storage_failures > 0).await;
    let topology = Topology::new(world.connection.clone());
    let info = within(LIMIT, topology.consumer(&world.stream, "recorder"))
        .await
        .expect("info");
    assert_eq!((info.ack_floor, recording.stats().position), (100, 100));
    image.set_fault(None);
    safe(&recording, 200).await;
    let end = within(LIMIT, recording.stop()).await.expect("stopped");
    assert_eq!((end.stats.recorded, end.confirmed), (200, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_deleted_ends_it() {
    let world = World::new().await;
    world.publish(10).await;
    let recording = world.begin(world.files()).await;
    safe(&recording, 10).await;
    let topology = Topology::new(world.connection.clone());
    within(LIMIT, topology.delete(&world.stream)).await.expect("deleted");
    let error = within(LIMIT, recording.ended()).await.expect_err("it cannot go on");
    assert_eq!(error.kind(), StreamRecordErrorKind::Consumer);
    let closed: Vec<PathBuf> = RecordedFiles::list(world.dir.path()).expect("files").closed;
    assert_eq!(closed.len(), 1, "what was recorded is closed");
}

/// The position never is ahead of what the disk would have kept, whatever of the rest it keeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acked_survives_a_power_loss() {
    for sync in [Sync::Commit, Sync::Interval(Duration::from_millis(100))] {
        let world = World::new().await;
        let image = CrashImage::new();
        let files = |image: &CrashImage| {
            let files = world.files().rotation(Rotation::NEVER).sync(sync);
            files.storage(Arc::new(image.clone()))
        };
        let recording = world.begin(files(&image)).await;
        for seed in 0..15 {
            world.publish(20).await;
            // Not always when all is safe: some are on their way.
            safe(&recording, recording.stats().position + 1).await;
            let position = recording.stats().position;
            let left = image.power_loss(seed);
            let writer = files(&left).open().expect("opened");
            let kept = writer.recovery().last_sequence.unwrap_or_default();
            assert!(kept >= position, "{sync:?}, seed {seed}: {kept} of {position}");
            writer.close_blocking().expect("closed");
        }
        safe(&recording, 300).await;
        within(LIMIT, recording.stop()).await.expect("stopped");
    }
}
