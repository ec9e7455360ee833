//! The processes of a run, and what they cost.

use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::role::USAGE;

/// Clock ticks of /proc a second on Linux, on every architecture that Rust supports.
const TICKS: f64 = 100.0;

/// A child of this program in one of its roles; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Role {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Role {
    /// Starts this program again as `role`, and waits until it is ready.
    pub(crate) async fn start(role: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("a pipe")?;
        let output = child.stdout.take().context("a pipe")?;
        let mut role = Self {
            child,
            input,
            output: BufReader::new(output).lines(),
            url: String::new(),
        };
        role.url = role.read().await?;
        Ok(role)
    }

    /// Where it can be reached, as it said itself.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Gives the process a task and returns its answer.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, task: &impl Serialize) -> Result<T> {
        let mut line = serde_json::to_vec(task)?;
        line.push(b'\n');
        self.input.write_all(&line).await?;
        self.read().await
    }

    /// Its allocations so far; growing a block counts as one.
    pub(crate) async fn allocations(&mut self) -> Result<u64> {
        self.ask(&USAGE).await
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("the process has ended")
    }

    async fn read<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.output.next_line().await?;
        let line = line.context("a process of the benchmark has ended; its error stands above")?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// What a role and nats-server have used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    client_cpu: f64,
    server_cpu: f64,
    allocations: u64,
}

/// What one item took: nanoseconds of both, and allocations of the role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Each {
    pub(crate) client_cpu_ns: f64,
    pub(crate) server_cpu_ns: f64,
    pub(crate) allocations: f64,
}

impl Usage {
    pub(crate) async fn of(role: &mut Role, server: u32) -> Result<Self> {
        Ok(Self {
            client_cpu: cpu_seconds(role.pid()?)?,
            server_cpu: cpu_seconds(server)?,
            allocations: role.allocations().await?,
        })
    }

    /// Since what was used before.
    pub(crate) fn each(self, before: Self, items: u64) -> Each {
        let items = items as f64;
        Each {
            client_cpu_ns: (self.client_cpu - before.client_cpu) * 1e9 / items,
            server_cpu_ns: (self.server_cpu - before.server_cpu) * 1e9 / items,
            allocations: (self.allocations - before.allocations) as f64 / items,
        }
    }
}

/// Processor seconds that a process has used so far.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold blanks; what follows it does not.
    let after = stat.rsplit_once(')').context("/proc/PID/stat")?.1;
    let field = |index: usize| -> Result<f64> {
        let text = after.split_whitespace().nth(index).context("/proc/PID/stat")?;
        Ok(text.parse::<f64>()?)
    };
    Ok((field(11)? + field(12)?) / TICKS)
}

/// The most memory that a process has had resident since [`reset_peak`], in bytes.
pub(crate) fn peak_memory(pid: u32) -> Result<u64> {
    status(pid, "VmHWM:")
}

/// Lets the kernel forget the most memory of a process so far.
pub(crate) fn reset_peak(pid: u32) -> Result<()> {
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// The memory that a process has resident, in bytes.
pub(crate) fn resident_memory(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

fn status(pid: u32, field: &'static str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()).context(field)?;
    Ok(kib.parse::<u64>()? * 1024)
}
