//! `natstream kv add`: buckets as they should be.

use std::time::Duration;

use clap::Args;
use natstream::Connection;
use natstream::eventbus::kv::{Buckets, KvErrorKind, KvInfo, KvSpec};

use crate::bus::{ChangesForm, StorageForm};
use crate::exit::Failure;
use crate::{duration, size};

/// Make a bucket, or compare one that is there; changes it only when told to.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  natstream kv add config --history 5 --replicas 3\n  natstream kv add locks --max-age 1h"
)]
pub(super) struct AddArgs {
    /// The bucket.
    bucket: String,
    /// Revisions of a key that are kept.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    history: u8,
    /// Age at which a value goes [nats-server's default: never].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    max_age: Option<Duration>,
    /// Bytes of all values [nats-server's default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = size::parse_positive)]
    max_bytes: Option<u64>,
    /// Bytes of one value [nats-server's default: max_payload].
    #[arg(long, value_name = "N")]
    max_value_size: Option<u32>,
    /// Where values are kept [nats-server's default: file].
    #[arg(long, value_enum)]
    storage: Option<StorageForm>,
    /// Servers that have each value [nats-server's default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: Option<u8>,
    /// Compress values on disk.
    #[arg(long)]
    compress: bool,
    /// Values may have ages of their own, and what goes by age leaves a marker for so long; needs nats-server 2.11.
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    limit_markers: Option<Duration>,
    /// Change a bucket that is there and is not as declared.
    #[arg(long, value_enum, value_name = "CHANGES")]
    update: Option<ChangesForm>,
}

pub(super) async fn add(connection: &Connection, args: AddArgs) -> Result<KvInfo, Failure> {
    let buckets = Buckets::new(connection.clone());
    let changes = args.update;
    let spec = spec(args);
    match (buckets.ensure(&spec).await, changes) {
        (Err(error), Some(changes)) if error.kind() == KvErrorKind::Differs => {
            Ok(buckets.update(&spec, changes.into()).await?)
        }
        (ensured, _) => Ok(ensured?),
    }
}

fn spec(args: AddArgs) -> KvSpec {
    let mut spec = KvSpec::new(args.bucket).history(args.history);
    if let Some(age) = args.max_age {
        spec = spec.max_age(age);
    }
    if let Some(bytes) = args.max_bytes {
        spec = spec.max_bytes(bytes);
    }
    if let Some(bytes) = args.max_value_size {
        spec = spec.max_value_size(bytes);
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
    if let Some(age) = args.limit_markers {
        spec = spec.limit_markers(age);
    }
    spec
}
