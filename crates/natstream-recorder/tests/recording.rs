//! Subscriptions and streams that are recorded, on a real nats-server.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::stream;
use natstream_connect::{ConnectConfig, Connection, SubscriberErrorKind};
use natstream_recorder::{RecordError, Recorder, RecordingError, RecordingStats};
use serde_json::{Value, json};
use stream_sinks::{
    CrashImage, Fault, Format, Receipt, Record, RecordSink, RollingWriter, RollingWriterBuilder, SinkError,
    SinkErrorKind,
};
use testkit::{NatsServer, settles_where, shared_url, unique_subject, within};
use tokio::sync::{Semaphore, mpsc};

const LIMIT: Duration = Duration::from_secs(20);

async fn connected() -> Connection {
    let connecting = Connection::connect(ConnectConfig::new(shared_url()));
    within(LIMIT, connecting).await.expect("connected")
}

fn files(image: &CrashImage) -> RollingWriterBuilder {
    RollingWriter::builder("logs", "test").storage(Arc::new(image.clone()))
}

/// All complete files, one after the other.
fn content(image: &CrashImage) -> String {
    let files = image.files().into_iter();
    let complete = files.filter(|(path, _)| Path::extension(path).is_some_and(|end| end == "log"));
    String::from_utf8(complete.flat_map(|(_, bytes)| bytes).collect()).expect("text")
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

async fn publish(connection: &Connection, subject: &str, range: std::ops::Range<u32>) {
    for number in range {
        let published = connection.nats().publish(subject.to_owned(), number.to_string().into());
        within(LIMIT, published).await.expect("published");
    }
    within(LIMIT, connection.fence(LIMIT)).await.expect("processed");
}

#[tokio::test]
async fn everything_that_was_published_is_recorded_once_and_in_order() {
    let (image, connection) = (CrashImage::new(), connected().await);
    let subject = unique_subject("record");
    let recorder = Recorder::new(files(&image).open().expect("opened"));
    let recording = recorder
        .subscribe(&connection, &subject, None)
        .await
        .expect("subscribed");
    publish(&connected().await, &subject, 0..20_000).await;
    let end = within(LIMIT, recording.stop(LIMIT)).await.expect("closed");
    assert_eq!(
        (end.stats.received, end.stats.recorded, end.stats.dropped),
        (20_000, 20_000, 0)
    );
    assert_eq!(end.receipt.survive_kill, 20_000);
    assert_eq!(content(&image), numbers(0..20_000));
}

#[tokio::test]
async fn messages_come_with_subject_headers_and_time() {
    let (image, connection) = (CrashImage::new(), connected().await);
    let subject = unique_subject("record");
    let recorder = Recorder::new(files(&image).format(Format::json_lines()).open().expect("opened"));
    let recording = recorder
        .subscribe(&connection, format!("{subject}.>"), None)
        .await
        .expect("subscribed");
    let mut headers = HeaderMap::new();
    headers.append("b", "1");
    headers.append("a", "2");
    headers.append("b", "3");
    let nats = connection.nats();
    let subject = format!("{subject}.x");
    nats.publish_with_headers(subject.clone(), headers, "text".into())
        .await
        .expect("published");
    nats.publish(subject.clone(), vec![0xff].into())
        .await
        .expect("published");
    within(LIMIT, connection.fence(LIMIT)).await.expect("processed");
    within(LIMIT, recording.stop(LIMIT)).await.expect("closed");
    let content = content(&image);
    let lines: Vec<Value> = content
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["headers"], json!({"a": ["2"], "b": ["1", "3"]}));
    assert_eq!(
        (&lines[0]["subject"], &lines[0]["data"]),
        (&json!(subject), &json!("text"))
    );
    assert_eq!(lines[1]["data_base64"], "/w==");
    assert!(lines.iter().all(|line| line["time"].is_string()));
}

#[tokio::test]
async fn members_of_a_group_record_each_message_once() {
    let subject = unique_subject("record");
    let images = [CrashImage::new(), CrashImage::new()];
    let mut recordings = Vec::new();
    for image in &images {
        let recorder = Recorder::new(files(image).open().expect("opened"));
        recordings.push(
            recorder
                .subscribe(&connected().await, &subject, Some("group"))
                .await
                .expect("subscribed"),
        );
    }
    publish(&connected().await, &subject, 0..1000).await;
    for recording in recordings {
        within(LIMIT, recording.stop(LIMIT)).await.expect("closed");
    }
    let both: String = images.iter().map(content).collect();
    let mut found: Vec<u32> = both.lines().map(|line| line.parse().expect("a number")).collect();
    found.sort_unstable();
    assert!(found.into_iter().eq(0..1000));
}

/// Takes a record for each permit.
struct Slow(Arc<Semaphore>, u64);

impl RecordSink for Slow {
    async fn append(&mut self, _: Record<'_>) -> Result<u64, SinkError> {
        self.0.acquire().await.expect("open").forget();
        self.1 += 1;
        Ok(self.1 - 1)
    }

    async fn flush(&mut self) -> Result<Receipt, SinkError> {
        Ok(Receipt::default())
    }

    async fn close(self) -> Result<Receipt, SinkError> {
        Ok(Receipt::default())
    }
}

fn adds_up(stats: &RecordingStats) -> bool {
    stats.received == stats.recorded + stats.dropped + stats.refused + stats.waiting
}

#[tokio::test]
async fn what_a_slow_sink_leaves_no_room_for_is_dropped_and_counted() {
    let connection = connected().await;
    let subject = unique_subject("record");
    let permits = Arc::new(Semaphore::new(0));
    let recorder = Recorder::new(Slow(permits.clone(), 0)).max_buffered(4096);
    let recording = recorder
        .subscribe(&connection, &subject, None)
        .await
        .expect("subscribed");
    publish(&connection, &subject, 0..1000).await;
    settles_where(LIMIT, async || recording.stats(), |stats| stats.received == 1000).await;
    let stats = recording.stats();
    assert!(adds_up(&stats) && stats.waiting_bytes <= 4096, "{stats:?}");
    assert!(stats.recorded == 0 && stats.dropped > 900, "{stats:?}");
    permits.add_permits(10);
    settles_where(LIMIT, async || recording.stats(), |stats| stats.recorded == 10).await;
    let end = within(LIMIT, recording.stop(Duration::from_millis(50)))
        .await
        .expect("closed");
    assert_eq!((end.stats.recorded, end.stats.waiting), (10, 0));
    assert!(adds_up(&end.stats), "{:?}", end.stats);
}

#[tokio::test]
async fn a_disk_that_fails_for_a_while_costs_nothing() {
    let (image, connection) = (CrashImage::new(), connected().await);
    let subject = unique_subject("record");
    let quick = Duration::from_millis(10);
    let writer = files(&image)
        .flush_interval(quick)
        .backoff(quick, quick)
        .open()
        .expect("opened");
    let recording = Recorder::new(writer)
        .subscribe(&connection, &subject, None)
        .await
        .expect("subscribed");
    publish(&connection, &subject, 0..1000).await;
    image.set_fault(Some(Fault::Full(100)));
    publish(&connection, &subject, 1000..5000).await;
    settles_where(LIMIT, async || recording.stats(), |stats| stats.storage_failures > 0).await;
    image.set_fault(None);
    publish(&connection, &subject, 5000..6000).await;
    let end = within(LIMIT, recording.stop(LIMIT)).await.expect("closed");
    assert_eq!((end.stats.recorded, end.stats.dropped), (6000, 0));
    assert_eq!(content(&image), numbers(0..6000));
}

#[tokio::test]
async fn a_recording_ends_with_its_connection_and_keeps_what_has_come() {
    let server = NatsServer::start().await;
    let connecting = Connection::connect(ConnectConfig::new(server.url()));
    let connection = within(LIMIT, connecting).await.expect("connected");
    let image = CrashImage::new();
    let recorder = Recorder::new(files(&image).open().expect("opened"));
    let recording = recorder.subscribe(&connection, "a", None).await.expect("subscribed");
    publish(&connection, "a", 0..10).await;
    settles_where(LIMIT, async || recording.stats(), |stats| stats.received == 10).await;
    within(LIMIT, connection.close(LIMIT)).await.expect("closed");
    let end = within(LIMIT, recording.ended()).await.expect("closed");
    assert_eq!((end.stats.recorded, end.refusal), (10, None));
    assert_eq!(content(&image), numbers(0..10));
}

#[tokio::test]
async fn who_may_not_subscribe_knows_at_once() {
    let config = "authorization { users: [{ user: a, password: b, permissions: { subscribe: [\"_INBOX.>\"] } }] }";
    let server = NatsServer::builder().config(config).start().await;
    let url = server.url().replace("nats://", "nats://a:b@");
    let connection = within(LIMIT, Connection::connect(ConnectConfig::new(url)))
        .await
        .expect("connected");
    let recorder = Recorder::new(files(&CrashImage::new()).open().expect("opened"));
    let refused = within(LIMIT, recorder.subscribe(&connection, "secret", None)).await;
    assert_eq!(
        refused.map(drop).map_err(|error| error.kind()),
        Err(SubscriberErrorKind::NotPermitted)
    );
}

#[tokio::test]
async fn a_stream_is_recorded_no_faster_than_the_sink_takes_it() {
    let permits = Arc::new(Semaphore::new(5));
    let mut recorder = Recorder::new(Slow(permits.clone(), 0));
    let (sender, mut items) = mpsc::channel::<String>(1);
    let items = stream::poll_fn(move |context| items.poll_recv(context));
    let recorded = {
        use futures_util::StreamExt as _;
        #[expect(clippy::disallowed_methods, reason = "beside what sends the items")]
        tokio::spawn(async move { recorder.record(items.map(Ok::<_, Infallible>)).await })
    };
    let mut sent = 0;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(100), sender.send("item".to_owned())).await {
        sent += 1;
    }
    assert_eq!(
        sent, 7,
        "five are in the sink, one waits for it, and one in the channel"
    );
    permits.add_permits(100);
    drop(sender);
    let recorded = within(LIMIT, recorded).await.expect("no panic").expect("recorded");
    assert_eq!((recorded.records, recorded.bytes), (7, 28));
}

#[tokio::test]
async fn what_came_before_a_stream_failed_is_recorded() {
    let image = CrashImage::new();
    let mut recorder = Recorder::new(files(&image).open().expect("opened"));
    let items = stream::iter([Ok("0"), Ok("1"), Err("broken"), Ok("2")]);
    match within(LIMIT, recorder.record(items)).await {
        Err(RecordError::Source { error, recorded, .. }) => {
            assert_eq!(
                (error, recorded.records, recorded.receipt.survive_kill),
                ("broken", 2, 2)
            );
        }
        other => panic!("{other:?}"),
    }
    within(LIMIT, recorder.close()).await.expect("closed");
    assert_eq!(content(&image), numbers(0..2));
}

#[tokio::test]
async fn one_that_does_not_fit_is_refused_and_the_others_are_recorded() {
    let (image, connection) = (CrashImage::new(), connected().await);
    let subject = unique_subject("record");
    let recorder = Recorder::new(files(&image).buffer(64 << 10).open().expect("opened"));
    let recording = recorder
        .subscribe(&connection, &subject, None)
        .await
        .expect("subscribed");
    publish(&connection, &subject, 0..1).await;
    let huge = connection.nats().publish(subject.clone(), vec![b'x'; 100 << 10].into());
    within(LIMIT, huge).await.expect("published");
    publish(&connection, &subject, 1..2).await;
    let end = within(LIMIT, recording.stop(LIMIT)).await.expect("closed");
    assert_eq!((end.stats.recorded, end.stats.refused), (2, 1));
    assert_eq!(content(&image), numbers(0..2));
}

#[tokio::test]
async fn somebody_else_closes_the_sink() {
    let (image, connection) = (CrashImage::new(), connected().await);
    let subject = unique_subject("record");
    let writer = files(&image).open().expect("opened");
    let recording = Recorder::new(writer.clone())
        .subscribe(&connection, &subject, None)
        .await
        .expect("subscribed");
    publish(&connection, &subject, 0..5).await;
    settles_where(LIMIT, async || recording.stats(), |stats| stats.recorded == 5).await;
    within(LIMIT, RecordSink::close(writer)).await.expect("closed");
    publish(&connection, &subject, 5..6).await;
    let end = within(LIMIT, recording.ended()).await;
    assert!(
        matches!(&end, Err(RecordingError::Sink { error, .. }) if error.kind() == SinkErrorKind::Closed),
        "{end:?}"
    );
    let stats = recording.stats();
    assert!(stats.dropped == 1 && adds_up(&stats), "{stats:?}");
}

#[tokio::test]
async fn members_that_have_enough_leave_the_rest_to_others() {
    let subject = unique_subject("record");
    let images = [CrashImage::new(), CrashImage::new()];
    let few = Recorder::new(files(&images[0]).open().expect("opened")).max_records(100);
    let few = few
        .subscribe(&connected().await, &subject, Some("group"))
        .await
        .expect("subscribed");
    let all = Recorder::new(files(&images[1]).open().expect("opened"));
    let all = all
        .subscribe(&connected().await, &subject, Some("group"))
        .await
        .expect("subscribed");
    publish(&connected().await, &subject, 0..5000).await;
    let few = within(LIMIT, few.ended()).await.expect("closed");
    let all = within(LIMIT, all.stop(LIMIT)).await.expect("closed");
    assert_eq!((few.stats.recorded, all.stats.recorded), (100, 4900));
}

/// Panics with its first record.
struct Panics;

impl RecordSink for Panics {
    async fn append(&mut self, _: Record<'_>) -> Result<u64, SinkError> {
        panic!("on purpose");
    }

    async fn flush(&mut self) -> Result<Receipt, SinkError> {
        Ok(Receipt::default())
    }

    async fn close(self) -> Result<Receipt, SinkError> {
        Ok(Receipt::default())
    }
}

#[tokio::test]
async fn a_sink_that_panics_ends_the_recording() {
    let connection = connected().await;
    let subject = unique_subject("record");
    let recording = Recorder::new(Panics)
        .subscribe(&connection, &subject, None)
        .await
        .expect("subscribed");
    publish(&connection, &subject, 0..3).await;
    let end = within(LIMIT, recording.ended()).await;
    let Err(RecordingError::TaskEnded { stats, .. }) = end else {
        panic!("{end:?}");
    };
    assert!(adds_up(&stats) && stats.recorded == 0, "{stats:?}");
}

#[test]
fn a_runtime_that_ends_ends_the_recording() {
    let other = tokio::runtime::Runtime::new().expect("a runtime");
    let connection = other.block_on(connected());
    let recorder = Recorder::new(files(&CrashImage::new()).open().expect("opened"));
    let recording = other
        .block_on(recorder.subscribe(&connection, unique_subject("record"), None))
        .expect("subscribed");
    other.shutdown_background();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let end = runtime.block_on(async { within(LIMIT, recording.stop(LIMIT)).await });
    assert!(matches!(end, Err(RecordingError::TaskEnded { .. })), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_add_up_at_every_moment() {
    let connection = connected().await;
    let subject = unique_subject("record");
    let permits = Arc::new(Semaphore::new(0));
    let recorder = Recorder::new(Slow(permits.clone(), 0)).max_buffered(64 << 10);
    let recording = recorder
        .subscribe(&connection, &subject, None)
        .await
        .expect("subscribed");
    let publishing = publish(&connection, &subject, 0..20_000);
    let looking = async {
        while recording.stats().received < 20_000 {
            permits.add_permits(1);
            let stats = recording.stats();
            assert!(adds_up(&stats), "{stats:?}");
            tokio::task::yield_now().await;
        }
    };
    within(LIMIT, async { tokio::join!(publishing, looking) }).await;
    let stats = match within(LIMIT, recording.stop(Duration::ZERO)).await {
        Ok(end) => end.stats,
        Err(error) => error.stats(),
    };
    assert!(adds_up(&stats) && stats.waiting == 0, "{stats:?}");
}
