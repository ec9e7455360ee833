//! Values by key: what is done with them, who may change them, what watchers see, and what other clients make of it.

mod faults;
mod meanwhile;
mod others;
mod values;
mod watching;

use bytes::Bytes;
use integration::{LIMIT, connection};
use natstream::Kv;
use natstream::eventbus::kv::{Change, Entry, KvSpec, Watch};
use testkit::{NatsServer, within};

/// A server of its own, and a bucket.
async fn bucket(spec: KvSpec) -> (NatsServer, Kv) {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let kv = create(&nats, &spec).await;
    (nats, kv)
}

async fn create(nats: &NatsServer, spec: &KvSpec) -> Kv {
    let connection = connection(&nats.url()).await;
    within(LIMIT, Kv::create(connection, spec)).await.expect("a bucket")
}

fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

async fn put(kv: &Kv, key: &str, value: &str) -> u64 {
    within(LIMIT, kv.put(key, bytes(value))).await.expect("put")
}

/// The next change, which is one of a key.
async fn entry<T: std::fmt::Debug>(watch: &mut Watch<T>) -> Entry<T> {
    match within(LIMIT, watch.next()).await.expect("a change") {
        Change::Entry(entry) => entry,
        other => panic!("{other:?} is no entry"),
    }
}

async fn current<T: std::fmt::Debug>(watch: &mut Watch<T>) {
    let next = within(LIMIT, watch.next()).await.expect("a word");
    assert!(matches!(next, Change::Current), "{next:?}");
}
