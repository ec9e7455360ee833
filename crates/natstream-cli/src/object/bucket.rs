//! `natstream object add` and `sweep`: buckets as they should be.

use std::time::Duration;

use clap::Args;
use natstream::Connection;
use natstream::Objects;
use natstream::eventbus::object::{ObjectErrorKind, ObjectSpec};
use serde_json::json;

use super::open;
use crate::bus::{ChangesForm, StorageForm};
use crate::exit::Failure;
use crate::{duration, size};

/// Make a bucket, or compare one that is there; changes it only when told to.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  natstream object add releases --replicas 3\n  natstream object add backups --max-age 30days --compress"
)]
pub(super) struct AddArgs {
    /// The bucket.
    bucket: String,
    /// Age at which an object goes [nats-server's default: never].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    max_age: Option<Duration>,
    /// Bytes of all objects [nats-server's default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = size::parse_positive)]
    max_bytes: Option<u64>,
    /// Where objects are kept [nats-server's default: file].
    #[arg(long, value_enum)]
    storage: Option<StorageForm>,
    /// Servers that have each object [nats-server's default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: Option<u8>,
    /// Compress objects on disk.
    #[arg(long)]
    compress: bool,
    /// Change a bucket that is there and is not as declared.
    #[arg(long, value_enum, value_name = "CHANGES")]
    update: Option<ChangesForm>,
}

/// Remove what uploads that never ended have left.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  natstream object sweep releases --quiet-for 1day")]
pub(super) struct SweepArgs {
    /// The bucket.
    bucket: String,
    /// Uploads that have stored nothing for so long are over.
    #[arg(long, value_name = "DUR", default_value = "1h", value_parser = duration::parse)]
    quiet_for: Duration,
}

pub(super) async fn add(connection: &Connection, args: AddArgs) -> Result<(), Failure> {
    let changes = args.update;
    let mut spec = ObjectSpec::new(args.bucket);
    if let Some(age) = args.max_age {
        spec = spec.max_age(age);
    }
    if let Some(bytes) = args.max_bytes {
        spec = spec.max_bytes(bytes);
    }
    if let Some(storage) = args.storage {
        spec = spec.storage(storage.into());
    }
    if let Some(replicas) = args.replicas {
        spec = spec.replicas(replicas.into());
    }
    if args.compress {
        spec = spec.compression(true);
    }
    match (Objects::create(connection.clone(), &spec).await, changes) {
        (Err(error), Some(changes)) if error.kind() == ObjectErrorKind::Differs => {
            Objects::update(connection.clone(), &spec, changes.into()).await?;
        }
        (created, _) => {
            created?;
        }
    }
    Ok(())
}

pub(super) async fn sweep(connection: &Connection, args: SweepArgs, is_json: bool) -> Result<String, Failure> {
    let swept = open(connection, &args.bucket).await?.sweep(args.quiet_for).await?;
    Ok(match is_json {
        true => format!("{}\n", json!({ "uploads": swept.uploads, "chunks": swept.chunks })),
        false => format!("{} uploads, {} chunks\n", swept.uploads, swept.chunks),
    })
}
