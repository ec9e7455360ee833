//! Does a stream take batches?

use std::fmt;

use natstream_connect::Connection;
use serde_json::Value;

use crate::error::OpenError;
use crate::topology::{StreamInfo, Topology};

/// A kind of batch that a stream must allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BatchMode {
    /// All or nothing: [`AtomicBus`](crate::AtomicBus).
    Atomic,
    /// Fast ingest: [`FastBus`](crate::FastBus).
    Fast,
}

impl BatchMode {
    /// The first nats-server that takes such batches.
    #[must_use]
    pub fn needs(self) -> &'static str {
        match self {
            Self::Atomic => "2.12",
            Self::Fast => "2.14",
        }
    }

    /// The stream's setting, and the option that sets it on the command line.
    fn setting(self) -> (&'static str, &'static str) {
        match self {
            Self::Atomic => ("allow_atomic", "--allow-atomic"),
            Self::Fast => ("allow_batched", "--allow-batched"),
        }
    }
}

impl fmt::Display for BatchMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Atomic => "atomic batches",
            Self::Fast => "batches of fast ingest",
        })
    }
}

/// The stream, if it takes such batches.
pub(crate) async fn granted(connection: &Connection, stream: &str, mode: BatchMode) -> Result<StreamInfo, OpenError> {
    let info = Topology::new(connection.clone()).info(stream).await?;
    judge(&info, &connection.server_version(), mode)?;
    Ok(info)
}

fn judge(info: &StreamInfo, version: &str, mode: BatchMode) -> Result<(), OpenError> {
    let is_set = |name: &str| info.config.get(name).and_then(Value::as_bool).unwrap_or(false);
    let (setting, option) = mode.setting();
    let stream = info.name.clone();
    // An older server has ignored the setting, so that a stream that has it is led by one that knows it.
    if !is_set(setting) {
        return Err(if is_older(version, mode.needs()) {
            OpenError::TooOld {
                mode,
                version: version.to_owned(),
            }
        } else {
            OpenError::NotAllowed {
                mode,
                remedy: format!(
                    "natstream bus stream add {stream} --subjects '{}' {option} --update harmless",
                    info.subjects.join(",")
                ),
                stream,
            }
        });
    }
    if is_set("no_ack") {
        return Err(OpenError::NoAcks { stream });
    }
    Ok(())
}

/// By the first two numbers; what has none is not older.
fn is_older(version: &str, than: &str) -> bool {
    let numbers = |text: &str| {
        let mut parts = text.split(['.', '-']).map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    };
    match (numbers(version), numbers(than)) {
        (Some(version), Some(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, than, older) in [
            ("2.9.25", "2.12", true),
            ("2.12.0", "2.12", false),
            ("2.13.1", "2.14", true),
            ("2.14.0-RC.1", "2.14", false),
            ("3.0.0", "2.14", false),
            ("", "2.14", false),
        ] {
            assert_eq!(is_older(version, than), older, "{version}");
        }
    }
}
