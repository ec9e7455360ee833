//! `natstream config`: what is configured, and what is wrong with it.

use std::io;

use clap::{Args, Subcommand};
use natstream::ConnectError;
use natstream::connect::settings::{Problem, Setting, Settings};
use serde_json::json;

use crate::console::Console;
use crate::exit::{Exit, Failure, printable, with_options};
use crate::options::ConnectionOptions;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  natstream config show --origin
  natstream config check --config nats.yaml && systemctl restart orders

Nothing is connected to; natstream doctor does that.";

/// Show the configuration, or check it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say what is wrong with the configuration and with the files that it names. The exit code is 0 if nothing is, and 2
    /// otherwise; warnings are not wrong.
    #[command(after_help = "Examples:\n  natstream config check --config nats.yaml && systemctl restart orders")]
    Check,
    /// Print all values that are set or have a default, secrets redacted.
    #[command(after_help = "Examples:\n  natstream config show --origin\n  natstream config show --json | jq -r .key")]
    Show {
        /// Also say where each value comes from.
        #[arg(long)]
        origin: bool,
    },
}

/// Runs the command.
pub(crate) async fn run(options: &ConnectionOptions, args: ConfigArgs, console: Console) -> Result<Exit, Failure> {
    match args.command {
        ConfigCommand::Check => check(options, console).await,
        ConfigCommand::Show { origin } => show(options, origin, console).await,
    }
}

async fn show(options: &ConnectionOptions, origin: bool, console: Console) -> Result<Exit, Failure> {
    let settings = options.loader().load()?;
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let line = |setting: Setting<'_>| match console.is_json() {
        true => json!({
            "key": setting.key(),
            "value": setting.value(),
            "secret": setting.is_secret(),
            "origin": setting.origin().to_string(),
        })
        .to_string(),
        false => {
            let value = format!("{}: {}", setting.key(), printable(&setting.value()));
            match origin {
                true => format!("{value:<48}  # {}", printable(&setting.origin().to_string())),
                false => value,
            }
        }
    };
    print(settings.iter().map(line)).await?;
    Ok(Exit::Complete)
}

async fn check(options: &ConnectionOptions, console: Console) -> Result<Exit, Failure> {
    let mut lines = Vec::new();
    let mut tell = |level: &str, text: String, key: Option<&str>| {
        lines.push(match console.is_json() {
            true => json!({"level": level, "text": text, "key": key}).to_string(),
            false => format!("{level}: {}", printable(&text)),
        });
    };
    let mut mistakes = 0;
    match options.loader().load() {
        Ok(settings) => {
            for warning in settings.warnings() {
                tell("warning", warning.clone(), None);
            }
            if let Some(error) = unusable(&settings).await {
                mistakes += 1;
                tell("error", with_causes(&error), error.field());
            }
        }
        Err(error) => {
            for problem in error.problems() {
                mistakes += 1;
                tell(
                    "error",
                    with_options(problem, &with_causes(problem)),
                    Problem::key(problem),
                );
            }
        }
    }
    print(lines.into_iter()).await?;
    match mistakes {
        0 => {
            console.progress("nothing is wrong");
            Ok(Exit::Complete)
        }
        1 => Err(Failure::usage("1 thing is wrong with the configuration")),
        n => Err(Failure::usage(format!("{n} things are wrong with the configuration"))),
    }
}

/// What only shows where all settings and their files come together.
async fn unusable(settings: &Settings) -> Option<ConnectError> {
    settings.connect_config().check().await.err()
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

async fn print(lines: impl Iterator<Item = String>) -> Result<(), Failure> {
    let mut output = Output::new();
    for line in lines {
        output.buffer().extend_from_slice(line.as_bytes());
        output.buffer().push(b'\n');
    }
    match output.flush().await {
        // A closed pipe is not an error; a full disk is.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let error = anyhow::Error::new(error).context("the configuration cannot be written to standard output");
            Err(Failure::new(Exit::Lost, error))
        }
        _ => Ok(()),
    }
}
