//! Readers see the old object or the new one, and what is given up leaves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use integration::LIMIT;
use natstream::eventbus::object::ObjectErrorKind;
use testkit::within;

use super::{bucket, create, messages, pattern, put, read, read_io};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_gets_one_object_or_is_told() {
    let (nats, objects) = bucket().await;
    let contents = [pattern(900_000, 1), pattern(1_300_000, 2)];
    put(&objects, "a", &contents[0]).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let whole = Arc::new(AtomicU64::new(0));
    let mut readers = Vec::new();
    for _ in 0..3 {
        let (own, contents) = (create(&nats.url()).await, contents.clone());
        let (is_over, whole) = (is_over.clone(), whole.clone());
        readers.push(tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                match read(&own, "a").await {
                    Ok(all) => {
                        assert!(contents.iter().any(|content| content == &all), "{} bytes", all.len());
                        whole.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => assert_eq!(error.kind(), ObjectErrorKind::Replaced, "{error}"),
                }
            }
        }));
    }
    for n in 0..20 {
        put(&objects, "a", &contents[n % 2]).await;
        // Whoever replaces it all the time lets nobody read.
        if n % 4 == 0 {
            let before = whole.load(Ordering::Relaxed);
            let now = || std::future::ready(whole.load(Ordering::Relaxed));
            testkit::settles_where(LIMIT, now, |now| *now > before).await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for reader in readers {
        within(LIMIT, reader).await.expect("no panic");
    }
}

/// The reader has begun, and most of the object is not there any more.
#[tokio::test]
async fn an_object_that_goes_while_it_is_read_is_told() {
    let (_nats, objects) = bucket().await;
    // More than is asked for at once.
    put(&objects, "a", &pattern(40_000_000, 1)).await;
    let mut reader = within(LIMIT, objects.get("a")).await.expect("there");
    within(LIMIT, reader.chunk())
        .await
        .expect("a chunk")
        .expect("not the end");
    put(&objects, "a", &pattern(10, 2)).await;
    let error = loop {
        match within(LIMIT, reader.chunk()).await {
            Ok(chunk) => assert!(chunk.is_some(), "no end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ObjectErrorKind::Replaced);
    assert!(within(LIMIT, reader.chunk()).await.expect("over").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_rivals_one_stays_and_nothing_else() {
    let (nats, objects) = bucket().await;
    let mut rivals = Vec::new();
    for seed in 0..6 {
        let own = create(&nats.url()).await;
        rivals.push(tokio::spawn(async move {
            for _ in 0..5 {
                own.put("a").bytes(pattern(300_000, seed)).await.expect("put");
            }
        }));
    }
    for rival in rivals {
        within(LIMIT, rival).await.expect("no panic");
    }
    let all = read_io(&objects, "a").await;
    assert!((0..6).any(|seed| pattern(300_000, seed) == all));
    assert_eq!(
        messages(&objects, &nats.url()).await,
        4,
        "three chunks, and what is said of them"
    );
}

#[tokio::test]
async fn what_dead_processes_leave_is_swept() {
    let (nats, objects) = bucket().await;
    put(&objects, "a", &pattern(300_000, 1)).await;
    put(&objects, "gone", &pattern(300_000, 2)).await;
    within(LIMIT, objects.delete("gone")).await.expect("deleted");
    let connection = integration::connection(&nats.url()).await;
    let context = async_nats::jetstream::new(connection.nats().clone());
    for _ in 0..3 {
        let ack = context.publish("$O.b.C.dead", "x".into()).await.expect("sent");
        within(LIMIT, ack).await.expect("stored");
    }
    let swept = within(LIMIT, objects.sweep(Duration::from_secs(3600)))
        .await
        .expect("swept");
    assert_eq!(
        (swept.uploads, swept.chunks),
        (0, 0),
        "that may be somebody who is putting it"
    );
    let swept = within(LIMIT, objects.sweep(Duration::ZERO)).await.expect("swept");
    assert_eq!((swept.uploads, swept.chunks), (1, 3));
    assert_eq!(read_io(&objects, "a").await, pattern(300_000, 1));
}
