//! Where, of what and by which command something was measured.

use std::{env, fs, process::Command, thread};

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// What the versions of the peers are read from: what this program was built with.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// Those that are measured, or that matter for them.
const PACKAGES: [&str; 5] = ["async-nats", "natstream", "tokio", "tonic", "tracing-appender"];

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) command: String,
    pub(crate) commit: String,
    /// Name and version.
    pub(crate) versions: Vec<(String, String)>,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// Of the minute before: more than a little says that others were at work.
    pub(crate) load_before: f64,
}

impl Origin {
    /// As it is now, before something is measured; with the nats-server at `url`, if one takes part.
    pub(crate) async fn now(url: Option<&str>) -> Result<Self> {
        let rustc = output("rustc", &["--version"]);
        // `rustc 1.95.0 (59807616e 2026-04-14)`
        let rustc = rustc.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let mut versions = vec![("rustc".to_owned(), rustc)];
        if let Some(url) = url {
            let client = async_nats::connect(url).await?;
            versions.push(("nats-server".to_owned(), client.server_info().version));
        }
        versions.extend(PACKAGES.iter().filter_map(|name| {
            let version = locked(LOCK, name)?;
            Some(((*name).to_owned(), version.to_owned()))
        }));
        let words: Vec<String> = env::args().skip(1).collect();
        let features = if cfg!(feature = "peers") {
            " --features peers"
        } else {
            ""
        };
        Ok(Self {
            command: format!("cargo run --release -p bench{features} -- {}", words.join(" ")),
            commit: commit(),
            versions,
            processor: field("/proc/cpuinfo", "model name"),
            cores: thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kibibytes(&field("/proc/meminfo", "MemTotal")) / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease"),
            load_before: words_of(&read("/proc/loadavg")).first().copied().unwrap_or(0.0),
        })
    }

    /// Commit, versions and machine.
    pub(crate) fn about(&self) -> String {
        let versions: Vec<String> = self
            .versions
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        format!(
            "commit {}; {}\n{} cores ({}), {:.0} GiB, Linux {}; load before {:.1}",
            self.commit,
            versions.join(", "),
            self.cores,
            self.processor,
            self.memory_gib,
            self.kernel,
            self.load_before,
        )
    }

    pub(crate) fn text(&self) -> String {
        format!("`{}`\n{}", self.command, self.about())
    }
}

fn words_of(text: &str) -> Vec<f64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn kibibytes(text: &str) -> f64 {
    words_of(text).first().copied().unwrap_or(0.0)
}

fn commit() -> String {
    let dir = env!("CARGO_MANIFEST_DIR");
    let commit = output("git", &["-C", dir, "rev-parse", "--short", "HEAD"]);
    let is_changed = !output("git", &["-C", dir, "status", "--porcelain", "--untracked-files=no"]).is_empty();
    if is_changed {
        format!("{commit} with changes")
    } else {
        commit
    }
}

fn output(program: &str, args: &[&str]) -> String {
    // What cannot be asked stays empty: the figures are worth more than their label.
    let output = Command::new(program).args(args).output();
    output.map_or_else(
        |_| String::new(),
        |output| first_line(&String::from_utf8_lossy(&output.stdout)),
    )
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// What stands behind `name:` in a file of /proc.
fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.trim() == name);
    found.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = lock.lines();
    lines.find(|line| *line == format!("name = \"{name}\""))?;
    lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        assert_eq!(
            locked("[[package]]\nname = \"a\"\nversion = \"1.2\"\n", "a"),
            Some("1.2")
        );
        assert_eq!(locked("", "a"), None);
        for name in PACKAGES {
            assert!(locked(LOCK, name).is_some(), "{name}");
        }
    }
}
