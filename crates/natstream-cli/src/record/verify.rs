//! `natstream record verify`: are the files what was recorded?

use std::path::PathBuf;

use clap::Args;
use natstream::recorder::{Verified, verify};
use serde_json::json;

use super::files::RecordFormat;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::size;

const EXAMPLES: &str = "\
Each closed file is read to its end, compressed or not, and compared with what the recorder noted when it closed it, in \
the hidden file .NAME.manifest: changed bytes, and files that are gone though retention did not remove them. Without one \
only records are looked at: torn or damaged ones, and sequences that do not grow.

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
}

pub(super) async fn run(args: VerifyArgs, console: Console) -> Result<Exit, Failure> {
    let VerifyArgs { dir, format } = args;
    let shown = dir.display().to_string();
    let verified = tokio::task::spawn_blocking(move || verify(dir, format.read_format())).await;
    let verified = verified.map_err(|error| Failure::new(Exit::Failed, error))?;
    let verified = verified.map_err(|error| {
        Failure::new(
            Exit::Usage,
            anyhow::Error::new(error).context(format!("{shown} cannot be read")),
        )
    })?;
    tell(&verified, console);
    match verified.findings.len() as u64 + verified.more_findings {
        0 => Ok(Exit::Complete),
        count => Err(Failure::text(Exit::Lost, format!("{count} findings in {shown}"))),
    }
}

fn tell(verified: &Verified, console: Console) {
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
            })
        },
    );
}
