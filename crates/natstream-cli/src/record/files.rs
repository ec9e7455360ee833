//! Options of the files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use natstream::recorder::{ManifestLog, read_format};
use natstream::sinks::{
    Compression, Format, ReadFormat, Retention, RollingWriter, RollingWriterBuilder, Rotation, SinkError,
    SinkErrorKind, Sync, Zone,
};

use crate::duration;
use crate::exit::{Exit, Failure};
use crate::size;

/// gzip's own default.
const GZIP_LEVEL: u32 = 6;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// Not a comment: in those, clap takes `{n}` for the end of a line.
const TEMPLATE: &str = "Path of a file below the directory, with {name}, {date}, {year}, {month}, {day}, {hour}, {minute}, {offset} and \
                        {\u{200b}n} (nothing, .1, .2 …) [default: {date}/{name}_{date}{hour}.log, as --rotate needs]";

#[derive(Args, Debug)]
#[command(next_help_heading = "Files")]
pub(super) struct FileOptions {
    /// Directory of the files; it is made.
    // Neither this nor the name is there with `verify`.
    #[arg(long, value_name = "DIR", required = true)]
    dir: Option<PathBuf>,
    /// Name that the files begin with.
    #[arg(long, value_name = "NAME", required = true)]
    name: Option<String>,
    /// When a file ends: minutely, hourly, daily, size:64MiB, or one of the former with a size: hourly,size:1GiB.
    #[arg(long, value_name = "WHEN", default_value = "hourly", value_parser = rotation)]
    rotate: Rotation,
    /// Zone in which hours begin and names are written: utc, local, or one like Europe/Berlin.
    #[arg(long, value_name = "ZONE", default_value = "utc", value_parser = zone)]
    zone: Zone,
    /// What a message becomes.
    #[arg(long, value_enum, default_value_t)]
    format: RecordFormat,
    #[arg(long, value_name = "TEMPLATE", help = TEMPLATE)]
    template: Option<String>,
    /// Compress files when they are closed.
    #[arg(long, value_enum, default_value_t)]
    compress: Compress,
    /// Keep at most this many closed files [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep_files: Option<u64>,
    /// Remove closed files that are older [default: none].
    #[arg(long, value_name = "DUR", value_parser = duration::parse_positive)]
    keep_age: Option<Duration>,
    /// Remove the oldest closed files when all have more bytes [default: none].
    #[arg(long, value_name = "SIZE", value_parser = size::parse_positive)]
    keep_bytes: Option<u64>,
    /// When messages are made to survive a power loss: none, interval:DUR, or commit (with each write). With --stream they are
    /// acked then; with none, as soon as they survive the recorder [default: interval:1s, with --stream commit].
    #[arg(long, value_name = "MODE", value_parser = sync)]
    sync: Option<Sync>,
    /// Sets this recorder apart from others with the same --name in the directory [default: none].
    #[arg(long, value_name = "ID")]
    writer_id: Option<String>,
    /// Link in the directory to the file in progress [default: none].
    #[arg(long, value_name = "NAME")]
    link: Option<String>,
}

/// What a message becomes in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordFormat {
    /// The payload and a newline.
    #[default]
    Line,
    /// The payload.
    Raw,
    /// `[2026-11-20 04:00:00.000] subject: payload`.
    Timestamped,
    /// A JSON object with subject, time, headers and payload.
    Jsonl,
    /// Length, checksum, payload.
    LengthPrefixed,
}

impl RecordFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Raw => "raw",
            Self::Timestamped => "timestamped",
            Self::Jsonl => "jsonl",
            Self::LengthPrefixed => "length-prefixed",
        }
    }

    fn format(self) -> Format {
        match self {
            Self::Line => Format::lines(),
            Self::Raw => Format::raw(),
            Self::Timestamped => Format::timestamped(),
            Self::Jsonl => Format::json_lines(),
            Self::LengthPrefixed => Format::length_prefixed(),
        }
    }

    /// How such files are read.
    pub(crate) fn read_format(self) -> ReadFormat {
        read_format(self.name()).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Compress {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl FileOptions {
    pub(super) fn dir(&self) -> &Path {
        self.dir.as_deref().unwrap_or_else(|| Path::new(""))
    }

    /// What the files are called.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The name of the format.
    pub(super) fn format(&self) -> &'static str {
        self.format.name()
    }

    /// The files as they are told, and with this mode unless one was given.
    pub(super) fn builder(&self, sync: Sync) -> RollingWriterBuilder {
        let base = self.name();
        let mut builder = RollingWriter::builder(self.dir(), base)
            .rotation(self.rotate)
            .zone(self.zone.clone())
            .format(self.format.format())
            .sync(self.sync.unwrap_or(sync))
            .retention(self.retention());
        if let Some(id) = &self.writer_id {
            builder = builder.writer_id(id);
        }
        if let Some(template) = &self.template {
            builder = builder.template(template);
        }
        if let Some(link) = &self.link {
            builder = builder.current_link(link);
        }
        match self.compress {
            Compress::None => {}
            Compress::Gzip => builder = builder.compression(Compression::Gzip(GZIP_LEVEL)),
            Compress::Zstd => builder = builder.compression(Compression::Zstd(ZSTD_LEVEL)),
        }
        builder.close_timeout(super::END / 2)
    }

    /// Opens the files; recovery may take a while.
    pub(super) async fn open(&self) -> Result<RollingWriter, Failure> {
        let builder = self.builder(Sync::default());
        let manifests = ManifestLog::new(self.dir(), builder.name_of(), self.format());
        let builder = manifests.attach(builder);
        let open = move || {
            let writer = builder.open()?;
            if let Err(error) = manifests.opened() {
                tracing::error!(%error, "what is recorded cannot be noted; `record verify` will know less");
            }
            Ok::<_, Failure>(writer)
        };
        match tokio::task::spawn_blocking(open).await {
            Ok(opened) => opened,
            Err(error) => Err(Failure::new(Exit::Failed, error)),
        }
    }

    fn retention(&self) -> Retention {
        let mut retention = Retention::unlimited();
        if let Some(count) = self.keep_files {
            retention = retention.max_files(size::to_usize(count));
        }
        if let Some(age) = self.keep_age {
            retention = retention.max_age(age);
        }
        if let Some(bytes) = self.keep_bytes {
            retention = retention.max_bytes(bytes);
        }
        retention
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        let exit = match error.kind() {
            SinkErrorKind::InvalidConfig | SinkErrorKind::InUse => Exit::Usage,
            _ => Exit::Incomplete,
        };
        let hint = (error.kind() == SinkErrorKind::InUse).then(|| "an id is given with --writer-id".to_owned());
        Self {
            hint,
            ..Self::new(exit, error)
        }
    }
}

fn rotation(text: &str) -> Result<Rotation, String> {
    const FORM: &str = "it is minutely, hourly, daily, size:64MiB, or one of the former with a size: hourly,size:64MiB";
    let (unit, bytes) = match text.split_once("size:") {
        // What stands before it is nothing, or a unit and a comma.
        Some((unit, bytes)) => {
            let unit = if unit.is_empty() {
                unit
            } else {
                unit.strip_suffix(',').ok_or(FORM)?
            };
            (unit, Some(size::parse_positive(bytes)?))
        }
        None => (text, None),
    };
    let rotation = match unit {
        "minutely" => Rotation::MINUTELY,
        "hourly" => Rotation::HOURLY,
        "daily" => Rotation::DAILY,
        "" if text.starts_with("size:") => Rotation::NEVER,
        _ => return Err(FORM.to_owned()),
    };
    Ok(match bytes {
        Some(bytes) => rotation.or_size(bytes),
        None => rotation,
    })
}

fn zone(text: &str) -> Result<Zone, String> {
    Ok(match text {
        "" => return Err("a zone is utc, local, or a name like Europe/Berlin".to_owned()),
        text if text.eq_ignore_ascii_case("utc") => Zone::Utc,
        text if text.eq_ignore_ascii_case("local") => Zone::Local,
        name => Zone::Named(name.to_owned()),
    })
}

/// Reads `none`, `interval:1s` or `commit`.
pub(crate) fn sync(text: &str) -> Result<Sync, String> {
    match (text, text.strip_prefix("interval:")) {
        ("none", _) => Ok(Sync::None),
        ("commit", _) => Ok(Sync::Commit),
        (_, Some(interval)) => duration::parse_positive(interval).map(Sync::Interval),
        _ => Err("it is none, commit, or interval:1s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_are_read() {
        for (text, expected) in [
            ("hourly", Rotation::HOURLY),
            ("size:64MiB", Rotation::size(64 << 20)),
            ("minutely,size:1KiB", Rotation::MINUTELY.or_size(1024)),
        ] {
            assert_eq!(rotation(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "weekly",
            "size:",
            "size:0",
            "hourly;size:1KiB",
            "hourlysize:1KiB",
            ",size:1KiB",
            "64MiB",
        ] {
            assert!(rotation(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_read() {
        assert_eq!(sync("interval:250ms"), Ok(Sync::Interval(Duration::from_millis(250))));
        assert_eq!((sync("none"), sync("commit")), (Ok(Sync::None), Ok(Sync::Commit)));
        assert!(sync("interval:").is_err() && sync("always").is_err());
    }
}
