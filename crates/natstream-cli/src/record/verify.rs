//! `natstream record verify`: are the files what was recorded?

use std::path::PathBuf;

use clap::Args;
use natstream::recorder::{StreamCompared, StreamVerifier, Verified, verify};
use serde_json::{Value, json};

use super::files::RecordFormat;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::program::Context;
use crate::session;
use crate::size;

const EXAMPLES: &str = "\
Examples:
  natstream record verify /var/log/app
  natstream record verify orders --stream ORDERS --payloads

Each closed file is read to its end, compressed or not, and compared with what the recorder noted when it closed it, in \
the hidden file .NAME.manifest: changed bytes, and files that are gone though retention did not remove them. Without one \
only records are looked at: torn or damaged ones, and sequences that do not grow.

With --stream, also what was recorded from JetStream is compared with what the stream still has: each message by its sequence \
(jsonl), or the number of messages of each file (the others). Messages behind the last closed file are counted, and no hole.

Exit codes: 0 all is whole, 5 something is not.";

/// Read recorded files, and report what is missing, changed, repeated, torn or damaged.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct VerifyArgs {
    /// Directory of the files.
    dir: PathBuf,
    /// Form of files that no manifest tells of.
    #[arg(long, value_enum, default_value_t)]
    format: RecordFormat,
    /// Compare with this stream of JetStream.
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// Compare payloads too, of jsonl and length-prefixed files.
    #[arg(long, requires = "stream")]
    payloads: bool,
}

pub(super) async fn run(
    context: impl FnOnce() -> Result<Context, Failure>,
    args: VerifyArgs,
    console: Console,
) -> Result<Exit, Failure> {
    let shown = args.dir.display().to_string();
    let (verified, compared) = match &args.stream {
        None => (alone(args).await?, Vec::new()),
        Some(stream) => {
            let mut context = context()?;
            let connection =
                session::connect(&context.connection, "natstream record verify", &mut context.interrupts).await?;
            let mut verifier = StreamVerifier::new(connection.clone(), stream).format(args.format.read_format());
            if args.payloads {
                verifier = verifier.payloads();
            }
            let found = tokio::select! {
                found = verifier.verify(&args.dir) => found,
                signal = context.interrupts.next() => return Err(session::interrupted(signal)),
            };
            session::leave(&connection, &mut context.interrupts).await;
            let found = found.map_err(super::stream::failure)?;
            (found.files, found.recorders)
        }
    };
    tell(&verified, &compared, console);
    if !console.is_json() {
        compared.iter().for_each(|recorder| tell_compared(recorder, console));
    }
    let compared: u64 = compared
        .iter()
        .map(|recorder| recorder.missing + recorder.differing)
        .sum();
    match verified.findings.len() as u64 + verified.more_findings + compared {
        0 => Ok(Exit::Complete),
        count => Err(Failure::text(Exit::Lost, format!("{count} findings in {shown}"))),
    }
}

async fn alone(args: VerifyArgs) -> Result<Verified, Failure> {
    let VerifyArgs { dir, format, .. } = args;
    let shown = dir.display().to_string();
    let verified = tokio::task::spawn_blocking(move || verify(dir, format.read_format())).await;
    let verified = verified.map_err(|error| Failure::new(Exit::Failed, error))?;
    verified.map_err(|error| {
        Failure::new(
            Exit::Usage,
            anyhow::Error::new(error).context(format!("{shown} cannot be read")),
        )
    })
}

fn tell_compared(compared: &StreamCompared, console: Console) {
    let StreamCompared {
        source,
        stream: (first, last),
        matched,
        missing,
        holes,
        not_yet,
        gone,
        payloads,
        differing,
        examples,
        ..
    } = compared;
    for (first, last) in holes {
        console.progress(&format!("missing: messages {first} to {last}, or some of them"));
    }
    for sequence in examples {
        console.progress(&format!("message {sequence}: the payload is not that of the stream"));
    }
    let mut text = format!(
        "stream {} has {first} to {last}: {matched} messages are in the files, {missing} missing",
        source.stream
    );
    for (count, what) in [
        (not_yet, "not recorded yet"),
        (gone, "in the files and no more in the stream"),
        (payloads, "payloads compared"),
        (differing, "different payloads"),
    ] {
        if *count > 0 {
            text.push_str(&format!("; {what}: {count}"));
        }
    }
    console.summary(|| text, || unreachable!("it is part of one object"));
}

fn json_of(compared: &StreamCompared) -> Value {
    let source = &compared.source;
    json!({
        "stream": source.stream, "consumer": source.consumer, "after": source.after, "stream_first": compared.stream.0,
        "stream_last": compared.stream.1, "matched": compared.matched, "missing": compared.missing, "holes": compared.holes,
        "not_yet": compared.not_yet, "gone": compared.gone, "payloads": compared.payloads, "differing": compared.differing,
        "different": compared.examples,
    })
}

fn tell(verified: &Verified, compared: &[StreamCompared], console: Console) {
    for finding in &verified.findings {
        console.summary(
            || finding.to_string(),
            || json!({"file": finding.file.display().to_string(), "finding": finding.to_string()}),
        );
    }
    if verified.more_findings > 0 && !console.is_json() {
        console.progress(&format!("… and {} more in these files", verified.more_findings));
    }
    console.summary(
        || {
            let mut text = format!(
                "{} files, {} records, {}",
                verified.files,
                verified.records,
                size::display(verified.bytes as f64)
            );
            if let Some((first, last)) = verified.sequences {
                text.push_str(&format!("; sequences {first} to {last}, {} gaps", verified.gaps));
            }
            for (count, what) in [
                (verified.unlisted, "without a manifest"),
                (verified.removed, "removed by retention"),
                (verified.in_progress.len() as u64, "in progress, not read"),
            ] {
                if count > 0 {
                    text.push_str(&format!("; {what}: {count}"));
                }
            }
            text
        },
        || {
            json!({
                "files": verified.files, "records": verified.records, "bytes": verified.bytes,
                "first": verified.sequences.map(|(first, _)| first), "last": verified.sequences.map(|(_, last)| last),
                "gaps": verified.gaps, "unlisted": verified.unlisted, "removed": verified.removed,
                "in_progress": verified.in_progress.len(), "findings": verified.findings.len() as u64 + verified.more_findings,
                "streams": compared.iter().map(json_of).collect::<Vec<_>>(),
            })
        },
    );
}
