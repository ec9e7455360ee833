//! A running nats-server.

use std::{
    env,
    fs::{self, DirBuilder, File},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xshell::Cmd;

use crate::{
    process::{POLL, interrupted, terminate},
    watchdog::Watchdog,
};

/// How long a server may take to start or to stop; it takes about 0.2 s on an idle machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A nats-server with JetStream on 127.0.0.1. Dropping it stops the process and removes its store.
pub(crate) struct Server {
    child: Child,
    watchdog: Watchdog,
    dir: PathBuf,
    url: String,
}

impl Server {
    /// Starts `binary` on `port`, or on a free one, and waits until it serves.
    pub(crate) fn start(binary: &Path, port: Option<u16>) -> Result<Self> {
        // The time is for containers that share a /tmp: their pids are alike.
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let dir = env::temp_dir().join(format!("natstream-nats-{}-{now}", process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        let mut watchdog = Watchdog::new(&dir).context("cannot run /bin/sh")?;

        let log = File::create(dir.join("log"))?;
        let child = Command::new(binary)
            .args(["--addr", "127.0.0.1", "--port"])
            .arg(port.map_or_else(|| "-1".to_owned(), |port| port.to_string()))
            .arg("--ports_file_dir")
            .arg(&dir)
            .arg("--jetstream")
            .arg("--store_dir")
            .arg(dir.join("jetstream"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for us; we stop the server when nobody needs it any more.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        watchdog.guard(child.id());
        let mut server = Self {
            child,
            watchdog,
            dir,
            url: String::new(),
        };

        let deadline = Instant::now() + PATIENCE;
        while server.url.is_empty() {
            if let Some(interrupted) = interrupted() {
                return Err(interrupted.into());
            }
            if let Some(status) = server.ended()? {
                bail!("{} ended at once ({status}):\n{}", binary.display(), server.log());
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} was not ready after {PATIENCE:?}:\n{}",
                    binary.display(),
                    server.log()
                );
            }
            server.url = announced_url(&server.dir).unwrap_or_default();
            thread::sleep(POLL);
        }
        Ok(server)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Lets the tests that `command` runs use this server, and `program` for servers of their own.
    pub(crate) fn serve<'a>(&self, command: Cmd<'a>, program: &Path) -> Cmd<'a> {
        command
            .env("NATSTREAM_TEST_URL", &self.url)
            .env("NATSTREAM_NATS_SERVER", program)
    }

    /// The directory of its log and its JetStream store.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How it ended, should it have done so by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for nats-server")
    }

    /// The end of its log, where the reason stands when it gave up.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        terminate(&mut self.child);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        // These fail only if it has ended already, which is the aim.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.watchdog.release();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Reads the server's ports file; `None` while it is missing or half written.
///
/// The server writes it when it listens, so nobody needs to read its log or try to connect.
fn announced_url(dir: &Path) -> Option<String> {
    let file = fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "ports"))?;
    let ports: Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    Some(ports["nats"][0].as_str()?.to_owned())
}
