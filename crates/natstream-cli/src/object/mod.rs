//! `natstream object`: objects of any size, in buckets of JetStream.

mod bucket;
mod show;
mod transfer;

use clap::{Args, Subcommand};
use natstream::eventbus::object::{ObjectError, ObjectErrorKind};
use natstream::{Connection, Objects};

use crate::bus::NOT_ENABLED;
use crate::bus::print;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::session;

const EXAMPLES: &str = "\
Examples:
  natstream object add releases
  natstream object put releases app-1.0.tar @app-1.0.tar
  natstream object get releases app-1.0.tar app.tar
  tar c . | natstream object put backups today -";

/// Keep objects of any size in buckets of JetStream.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ObjectArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the buckets, or the objects of one.
    #[command(after_help = "Examples:\n  natstream object ls\n  natstream object ls releases")]
    Ls {
        /// The bucket.
        bucket: Option<String>,
    },
    Add(bucket::AddArgs),
    /// Delete a bucket and all that it has.
    #[command(after_help = "Examples:\n  natstream object rm releases")]
    Rm {
        /// The bucket.
        bucket: String,
    },
    Put(transfer::PutArgs),
    Get(transfer::GetArgs),
    /// Show what is known of an object.
    #[command(after_help = "Examples:\n  natstream object info releases app-1.0.tar")]
    Info {
        /// The bucket.
        bucket: String,
        /// The object.
        name: String,
    },
    /// Delete an object.
    #[command(after_help = "Examples:\n  natstream object del releases app-1.0.tar")]
    Del {
        /// The bucket.
        bucket: String,
        /// The object.
        name: String,
    },
    Sweep(bucket::SweepArgs),
}

/// Runs the command.
pub(crate) async fn run(mut context: Context, args: ObjectArgs) -> Result<Exit, Failure> {
    let connection = session::connect(&context.connection, "natstream object", &mut context.interrupts).await?;
    let console = context.console;
    let answered = match args.command {
        Command::Put(args) => transfer::put(&connection, args, console, &mut context.interrupts).await,
        command => tokio::select! {
            answered = async {
                match command {
                    Command::Get(args) => transfer::get(&connection, args, console).await,
                    command => answer(&connection, command, console.is_json()).await,
                }
            } => answered,
            signal = context.interrupts.next() => Err(session::interrupted(signal)),
        },
    };
    session::leave(&connection, &mut context.interrupts).await;
    print(&mut context, &answered?).await?;
    Ok(Exit::Complete)
}

async fn answer(connection: &Connection, command: Command, is_json: bool) -> Result<String, Failure> {
    Ok(match command {
        Command::Ls { bucket: None } => show::buckets(&Objects::buckets(connection).await?, is_json),
        Command::Ls { bucket: Some(bucket) } => {
            let objects = open(connection, &bucket).await?;
            show::objects(&objects.list().await?, is_json)
        }
        Command::Add(args) => {
            bucket::add(connection, args).await?;
            String::new()
        }
        Command::Rm { bucket } => {
            Objects::delete_bucket(connection, &bucket).await?;
            String::new()
        }
        Command::Info { bucket, name } => {
            let info = open(connection, &bucket).await?.info(&name).await?;
            show::object(&info, is_json)
        }
        Command::Del { bucket, name } => {
            open(connection, &bucket).await?.delete(&name).await?;
            String::new()
        }
        Command::Sweep(args) => bucket::sweep(connection, args, is_json).await?,
        // They were run before.
        Command::Put(_) | Command::Get(_) => String::new(),
    })
}

async fn open(connection: &Connection, bucket: &str) -> Result<Objects, Failure> {
    Ok(Objects::open(connection.clone(), bucket).await?)
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        let (exit, hint) = match error.kind() {
            ObjectErrorKind::InvalidBucket | ObjectErrorKind::InvalidName => (Exit::Usage, None),
            ObjectErrorKind::Connection => (Exit::NoConnection, None),
            ObjectErrorKind::NotEnabled => (Exit::NobodyAnswers, Some(NOT_ENABLED)),
            ObjectErrorKind::NoBucket => (Exit::Failed, Some("`natstream object add` makes a bucket")),
            ObjectErrorKind::NotPermitted => (Exit::NotPermitted, Some(session::PERMISSIONS)),
            ObjectErrorKind::Digest | ObjectErrorKind::Incomplete => (Exit::Lost, None),
            ObjectErrorKind::Replaced => (Exit::Lost, Some("asking again gets what is there now")),
            ObjectErrorKind::LeftBehind => (Exit::Incomplete, Some("`natstream object sweep` removes it later")),
            ObjectErrorKind::Source => (Exit::Usage, None),
            ObjectErrorKind::Timeout => (
                Exit::ClockRanOut,
                Some("`natstream doctor` looks at permissions and leaders"),
            ),
            ObjectErrorKind::Differs => (Exit::Failed, Some("--update harmless, or any, changes it")),
            _ => (Exit::Failed, None),
        };
        Self {
            hint: hint.map(str::to_owned),
            ..Self::new(exit, error)
        }
    }
}
