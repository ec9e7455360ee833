//! No payload and no secret is ever logged.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use integration::LIMIT;
use integration::bus::stream;
use natstream::eventbus::topology::{ConsumerSpec, StreamSpec};
use natstream::eventbus::{Consumer, HandlerError as ConsumeFailure};
use natstream::recorder::Recorder;
use natstream::sinks::RollingWriter;
use natstream::{Bus, ConnectConfig, Connection, Credentials, Event, HandlerError, Pool, Server};
use parking_lot::Mutex;
use testkit::{shared_url, unique_name, unique_subject, within};
use tracing_subscriber::EnvFilter;

/// It is in every payload, in values of headers, and in the password.
const MARKER: &str = "s3kr1t-m4rk3r";

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Calls of every ending.
async fn calls(connection: &Connection) {
    let (server, pool, subject) = (
        Server::new(connection.clone()),
        Pool::new(connection.clone()),
        unique_subject("silence"),
    );
    let answer = server.on(&subject, |request, mut out| async move {
        out.header("X-Own", MARKER)?;
        out.send(request.payload().clone()).await?;
        if request.header("X-Do") == Some("fail") {
            return Err(HandlerError::internal("it fails").with_details(MARKER));
        }
        if request.header("X-Do") == Some("panic") {
            panic!("of the test");
        }
        Ok(())
    });
    within(LIMIT, answer.max_item(1024)).await.expect("served");
    let large = MARKER.repeat(1000);
    for (what, payload) in [("end", MARKER), ("fail", MARKER), ("panic", MARKER), ("end", &large)] {
        let request = pool.request_stream(&subject, payload.to_owned());
        let request = request.header("X-Do", what).header("X-Marker", MARKER);
        // Some fail, and all are logged.
        let _ = within(LIMIT, request.await.expect("sent").collect_all(1 << 20)).await;
    }
    drop(
        within(LIMIT, pool.request_stream(&subject, MARKER))
            .await
            .expect("sent"),
    );
    let nobody = unique_subject("silence");
    assert!(within(LIMIT, pool.request(&nobody, MARKER)).await.is_err());
    assert!(
        within(LIMIT, pool.request_stream(&nobody, MARKER).header("bad header", MARKER))
            .await
            .is_err()
    );
    // Noise that is no call.
    within(LIMIT, pool.publish(&subject, MARKER)).await.expect("sent");
    within(LIMIT, pool.publish(&subject, MARKER).reply_to("$JS.API.x"))
        .await
        .expect("sent");
    let handled = server.on_message(unique_subject("silence"), |_| async {
        Err(HandlerError::internal("no"))
    });
    let handled = within(LIMIT, handled).await.expect("served");
    assert!(
        within(
            LIMIT,
            pool.request(handled.subject(), MARKER)
                .timeout(Duration::from_millis(200))
        )
        .await
        .is_err()
    );
    within(LIMIT, server.drain(LIMIT)).await;
}

/// Events that are acked, refused, handled, and put aside.
async fn events(connection: &Connection) {
    let (name, subject) = (unique_name("SILENCE"), unique_subject("silence"));
    let dead = unique_subject("silence.dead");
    stream(
        connection,
        StreamSpec::new(&name, [format!("{subject}.>"), dead.clone()]),
    )
    .await;
    let bus = within(LIMIT, Bus::open(connection.clone())).await.expect("open");
    for part in ["a", "b"] {
        let event = Event::new(format!("{subject}.{part}"), MARKER).header("X-Marker", MARKER);
        within(LIMIT, bus.publish(event)).await.expect("acked");
    }
    let nowhere = Event::new(unique_subject("silence"), MARKER).deadline(Duration::from_millis(100));
    within(LIMIT, bus.enqueue(nowhere.clone())).await.expect("accepted");
    assert!(within(LIMIT, bus.publish(nowhere)).await.is_err());
    assert!(
        within(LIMIT, bus.publish(Event::new("bad subject", MARKER)))
            .await
            .is_err()
    );
    let spec = ConsumerSpec::new(&name, "c").filters([format!("{subject}.>")]);
    let consumer = Consumer::builder(connection.clone(), spec)
        .backoff([Duration::from_millis(1)])
        .dead_letters(&dead, 2)
        .limit(2);
    let consumer = within(LIMIT, consumer.open()).await.expect("open");
    let handled = consumer.for_each(|message| async move {
        match message.subject().ends_with('b') {
            true => Err(ConsumeFailure::retry("not this one")),
            false => Ok(()),
        }
    });
    within(LIMIT, handled).await.expect("handled");
    let outbox = tempfile::tempdir().expect("a directory");
    let outbox = natstream::Outbox::builder(outbox.path()).open().await.expect("open");
    outbox.deliver_by(connection.clone());
    within(LIMIT, outbox.enqueue(Event::new(format!("{subject}.c"), MARKER)))
        .await
        .expect("written");
    within(LIMIT, outbox.close(LIMIT)).await.expect("delivered");
}

/// A password in a URL, of a server that is there and of one that is not.
async fn urls() {
    let server = shared_url().trim_start_matches("nats://");
    for (server, is_there) in [(server, true), ("127.0.0.1:1", false)] {
        let config = ConnectConfig::new(format!("nats://someone:{MARKER}@{server}"));
        let connected = within(LIMIT, Connection::connect(config)).await;
        assert_eq!(connected.is_ok(), is_there);
    }
}

/// Messages that are recorded.
async fn records(connection: &Connection) {
    let (dir, subject) = (tempfile::tempdir().expect("a directory"), unique_subject("silence"));
    let writer = RollingWriter::builder(dir.path(), "silence").open().expect("open");
    let recorder = Recorder::new(writer).max_records(1);
    let recording = within(LIMIT, recorder.subscribe(connection, &subject, None))
        .await
        .expect("subscribed");
    let pool = Pool::new(connection.clone());
    within(LIMIT, pool.publish(&subject, MARKER).header("X-Marker", MARKER))
        .await
        .expect("sent");
    within(LIMIT, recording.ended()).await.expect("recorded");
}

#[tokio::test]
async fn no_payload_and_no_secret_is_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        // async-nats shows payloads, and how it logs in, at TRACE: `docs/observability.md` says so.
        .with_env_filter(EnvFilter::new("trace,async_nats=debug"))
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    // Of the whole process: sinks have threads. The other tests have their own for theirs.
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    let config = ConnectConfig::new(shared_url()).credentials(Credentials::user_password("someone", MARKER));
    let connection = within(LIMIT, Connection::connect(config)).await.expect("connected");
    urls().await;
    calls(&connection).await;
    events(&connection).await;
    records(&connection).await;
    within(LIMIT, connection.close(LIMIT)).await.expect("closed");
    let log = String::from_utf8_lossy(&log.0.lock()).into_owned();
    for said in [
        "stream.request",
        "stream.handle",
        "bus.handle",
        "file closed",
        "a message was not handled",
    ] {
        assert!(log.contains(said), "`{said}` is not in the log");
    }
    let line = log.lines().find(|line| line.contains(MARKER));
    assert_eq!(line, None);
}
