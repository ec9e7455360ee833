//! Lists and sweeps while others change what they go through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, object_store};
use integration::LIMIT;
use testkit::within;

use super::{bucket, create, pattern, put, read_io};

const OBJECTS: usize = 300;

/// Other clients write the description of an object anew, which takes another place in the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_are_described_anew_are_listed_and_not_swept() {
    let (nats, objects) = bucket().await;
    for n in 0..OBJECTS {
        put(&objects, &format!("o{n:03}"), &pattern(100, n as u32)).await;
    }
    let context = jetstream::new(integration::connection(&nats.url()).await.nats().clone());
    let theirs = within(LIMIT, context.get_object_store("b"))
        .await
        .expect("their bucket");
    let is_over = Arc::new(AtomicBool::new(false));
    let describing = tokio::spawn({
        let is_over = is_over.clone();
        async move {
            for n in (0..OBJECTS).rev().cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("o{n:03}");
                let metadata = object_store::UpdateMetadata {
                    name: name.clone(),
                    description: Some("anew".to_owned()),
                    ..Default::default()
                };
                theirs.update_metadata(name, metadata).await.expect("described");
            }
        }
    });
    let own = create(&nats.url()).await;
    for _ in 0..10 {
        assert_eq!(within(LIMIT, own.list()).await.expect("read").len(), OBJECTS);
        // Nobody is putting anything.
        let swept = within(LIMIT, own.sweep(Duration::ZERO)).await.expect("swept");
        assert_eq!(swept.chunks, 0);
    }
    is_over.store(true, Ordering::Relaxed);
    within(LIMIT, describing).await.expect("no panic");
    for n in 0..OBJECTS {
        assert!(read_io(&objects, &format!("o{n:03}")).await == pattern(100, n as u32));
    }
}
