//! `natstream kv`: values by key, in buckets of JetStream.

mod bucket;
mod show;
mod watch;

use std::ffi::OsString;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use natstream::eventbus::kv::{Buckets, KvError, KvErrorKind};
use natstream::{Connection, Kv};
use serde_json::json;

use crate::bus::NOT_ENABLED;
use crate::content;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::program::Context;
use crate::{duration, output, session};

const EXAMPLES: &str = "\
Examples:
  natstream kv add config --history 5
  natstream kv put config limits.rate 100
  natstream kv get config limits.rate
  natstream kv update config limits.rate 200 --revision 1
  natstream kv watch config 'limits.>'";

/// Keep values by key in buckets of JetStream.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct KvArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all buckets.
    #[command(after_help = "Examples:\n  natstream kv ls")]
    Ls,
    Add(bucket::AddArgs),
    /// Delete a bucket and all that it has.
    #[command(after_help = "Examples:\n  natstream kv rm config")]
    Rm {
        /// The bucket.
        bucket: String,
    },
    /// Put a value; prints its revision.
    #[command(
        after_help = "Examples:\n  natstream kv put config limits.rate 100\n  natstream kv put config motd @motd.txt"
    )]
    Put {
        #[command(flatten)]
        value: Value,
    },
    /// Print a key's value.
    #[command(
        after_help = "Examples:\n  natstream kv get config limits.rate\n  natstream kv get config motd --revision 3 --raw"
    )]
    Get {
        #[command(flatten)]
        key: Key,
        /// This revision in place of the last one.
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
        /// Without a newline behind it.
        #[arg(long)]
        raw: bool,
    },
    /// Put a value where the key has none; prints its revision.
    #[command(after_help = "Examples:\n  natstream kv create locks nightly-report --ttl 1h")]
    Create {
        #[command(flatten)]
        value: Value,
        /// It goes after so long; the bucket must have been made with --limit-markers.
        #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
        ttl: Option<Duration>,
    },
    /// Put a value if the key's last revision is the one that is expected; prints its revision.
    #[command(after_help = "Examples:\n  natstream kv update config limits.rate 200 --revision 1")]
    Update {
        #[command(flatten)]
        value: Value,
        /// The expected revision; 0 for a key that has none.
        #[arg(long, value_name = "N")]
        revision: u64,
    },
    /// Delete a key, and keep its history.
    #[command(after_help = "Examples:\n  natstream kv del config limits.rate")]
    Del {
        #[command(flatten)]
        key: Key,
        /// Only if this is its last revision.
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
    },
    /// Delete a key with its history.
    #[command(after_help = "Examples:\n  natstream kv purge config limits.rate")]
    Purge {
        #[command(flatten)]
        key: Key,
    },
    /// Print the revisions of a key that the bucket has.
    #[command(after_help = "Examples:\n  natstream kv history config limits.rate")]
    History {
        #[command(flatten)]
        key: Key,
    },
    Watch(watch::WatchArgs),
    /// Print the keys that have a value.
    #[command(after_help = "Examples:\n  natstream kv keys config\n  natstream kv keys config 'limits.>'")]
    Keys {
        /// The bucket.
        bucket: String,
        /// Only these: `*` stands for one part between dots, `>` for all that follow.
        #[arg(default_value = ">")]
        filter: String,
    },
}

#[derive(Args, Debug)]
struct Key {
    /// The bucket.
    bucket: String,
    /// The key.
    key: String,
}

#[derive(Args, Debug)]
struct Value {
    #[command(flatten)]
    key: Key,
    /// The value: text, @FILE for a file's content, or - for standard input [default: nothing].
    #[arg(value_name = "VALUE | @FILE | -")]
    value: Option<OsString>,
}

impl Value {
    async fn read(&self) -> Result<Bytes, Failure> {
        content::read(self.value.as_deref()).await
    }
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: KvArgs) -> Result<Exit, Failure> {
    let connection = session::connect(&context.connection, "natstream kv", &mut context.interrupts).await?;
    if let Command::Watch(args) = args.command {
        let watched = watch::run(&mut context, &connection, args).await;
        session::leave(&connection, &mut context.interrupts).await;
        return watched;
    }
    let answered = tokio::select! {
        answered = answer(&connection, args.command, context.console.is_json()) => answered,
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    };
    session::leave(&connection, &mut context.interrupts).await;
    let mut output = Output::new();
    output.buffer().extend_from_slice(&answered?);
    tokio::select! {
        flushed = output.flush() => match flushed.map_err(output::failure) {
            Err(Some(failure)) => Err(failure),
            Ok(()) | Err(None) => Ok(Exit::Complete),
        },
        signal = context.interrupts.next() => Err(session::interrupted(signal)),
    }
}

async fn answer(connection: &Connection, command: Command, is_json: bool) -> Result<Vec<u8>, Failure> {
    let revision = match command {
        Command::Ls => {
            let all = Buckets::new(connection.clone()).list().await?;
            return Ok(show::buckets(&all, is_json).into_bytes());
        }
        Command::Add(args) => {
            let info = bucket::add(connection, args).await?;
            return Ok(show::bucket(&info, is_json).into_bytes());
        }
        Command::Rm { bucket } => {
            Buckets::new(connection.clone()).delete(&bucket).await?;
            return Ok(Vec::new());
        }
        Command::Get { key, revision, raw } => {
            return get(&open(connection, &key.bucket).await?, &key.key, revision, raw, is_json).await;
        }
        Command::History { key } => {
            let history = open(connection, &key.bucket).await?.history(&key.key).await?;
            return Ok(history.iter().flat_map(|entry| show::entry(entry, is_json)).collect());
        }
        Command::Keys { bucket, filter } => {
            let kv = open(connection, &bucket).await?;
            let keys = kv.keys_of(&filter).await?;
            let lines = keys.into_iter().map(|key| match is_json {
                true => format!("{}\n", json!({ "key": key })),
                false => format!("{key}\n"),
            });
            return Ok(lines.collect::<String>().into_bytes());
        }
        // It was run before.
        Command::Watch(_) => return Ok(Vec::new()),
        Command::Put { value } => {
            let payload = value.read().await?;
            open(connection, &value.key.bucket)
                .await?
                .put(&value.key.key, payload)
                .await?
        }
        Command::Create { value, ttl } => {
            let (kv, payload) = (open(connection, &value.key.bucket).await?, value.read().await?);
            match ttl {
                Some(ttl) => kv.create_with_ttl(&value.key.key, payload, ttl).await?,
                None => kv.create_value(&value.key.key, payload).await?,
            }
        }
        Command::Update { value, revision } => {
            let payload = value.read().await?;
            open(connection, &value.key.bucket)
                .await?
                .update(&value.key.key, payload, revision)
                .await?
        }
        Command::Del { key, revision } => match revision {
            Some(revision) => {
                open(connection, &key.bucket)
                    .await?
                    .delete_revision(&key.key, revision)
                    .await?
            }
            None => open(connection, &key.bucket).await?.delete(&key.key).await?,
        },
        Command::Purge { key } => open(connection, &key.bucket).await?.purge(&key.key).await?,
    };
    Ok(match is_json {
        true => format!("{}\n", json!({ "revision": revision })),
        false => format!("{revision}\n"),
    }
    .into_bytes())
}

async fn get(kv: &Kv, key: &str, revision: Option<u64>, raw: bool, is_json: bool) -> Result<Vec<u8>, Failure> {
    let entry = match revision {
        Some(revision) => kv.revision(key, revision).await?,
        None => kv.entry(key).await?,
    };
    let Some((entry, value)) = entry.and_then(|entry| entry.value.clone().map(|value| (entry, value))) else {
        return Err(Failure::text(Exit::Failed, format!("the key `{key}` has no value")));
    };
    if is_json {
        return Ok(show::entry(&entry, true));
    }
    let mut value = value.to_vec();
    if !raw {
        value.push(b'\n');
    }
    Ok(value)
}

async fn open(connection: &Connection, bucket: &str) -> Result<Kv, Failure> {
    Ok(Kv::open(connection.clone(), bucket).await?)
}

impl From<KvError> for Failure {
    fn from(error: KvError) -> Self {
        let (exit, hint) = match error.kind() {
            KvErrorKind::InvalidBucket | KvErrorKind::InvalidKey => (Exit::Usage, None),
            KvErrorKind::Connection => (Exit::NoConnection, None),
            KvErrorKind::NotEnabled => (Exit::NobodyAnswers, Some(NOT_ENABLED)),
            KvErrorKind::NotFound => (Exit::Failed, Some("`natstream kv add` makes a bucket")),
            KvErrorKind::NotPermitted => (Exit::NotPermitted, Some(session::PERMISSIONS)),
            KvErrorKind::Replaced => (Exit::Lost, None),
            KvErrorKind::Timeout => (
                Exit::ClockRanOut,
                Some("`natstream doctor` looks at permissions and leaders"),
            ),
            KvErrorKind::Differs => (Exit::Failed, Some("--update harmless, or any, changes it")),
            _ => (Exit::Failed, None),
        };
        Self {
            hint: hint.map(str::to_owned),
            ..Self::new(exit, error)
        }
    }
}
