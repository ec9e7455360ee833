//! Objects: put and read as streams, replaced as a whole, checked, and what other clients make of them.

mod atomic;
mod damage;
mod dropped;
mod faults;
mod meanwhile;
mod others;
mod whole;

use bytes::Bytes;
use integration::{LIMIT, connection};
use natstream::Objects;
use natstream::eventbus::object::{ObjectError, ObjectSpec};
use natstream::eventbus::topology::Topology;
use testkit::{NatsServer, within};
use tokio::io::AsyncReadExt as _;

/// A server of its own, and a bucket.
async fn bucket() -> (NatsServer, Objects) {
    let nats = NatsServer::builder().jetstream(true).start().await;
    let objects = create(&nats.url()).await;
    (nats, objects)
}

async fn create(url: &str) -> Objects {
    let connection = connection(url).await;
    within(LIMIT, Objects::create(connection, &ObjectSpec::new("b")))
        .await
        .expect("a bucket")
}

/// Bytes that are not the same everywhere.
fn pattern(len: usize, seed: u32) -> Bytes {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    bytes.take(len).collect()
}

async fn put(objects: &Objects, name: &str, bytes: &Bytes) {
    within(LIMIT, objects.put(name).bytes(bytes.clone()))
        .await
        .expect("put");
}

/// The whole object, or why there is none.
async fn read(objects: &Objects, name: &str) -> Result<Vec<u8>, ObjectError> {
    let mut reader = objects.get(name).await?;
    let mut all = Vec::new();
    while let Some(chunk) = reader.chunk().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

async fn read_io(objects: &Objects, name: &str) -> Vec<u8> {
    let mut all = Vec::new();
    let mut reader = within(LIMIT, objects.get(name)).await.expect("there");
    within(LIMIT, reader.read_to_end(&mut all)).await.expect("whole");
    all
}

/// Messages that the bucket's stream has.
async fn messages(objects: &Objects, url: &str) -> u64 {
    let topology = Topology::new(connection(url).await);
    let name = format!("OBJ_{}", objects.bucket());
    within(LIMIT, topology.info(&name)).await.expect("the stream").messages
}
