//! `cargo xtask nats up`

use std::{process::ExitCode, thread};

use anyhow::{Result, bail};

use crate::{
    Task,
    flags::{Args, Usage},
    process::{POLL, interrupted},
    provide::{Accept, provide},
    server::Server,
    workspace::Workspace,
};

pub(crate) const TASK: Task = Task {
    name: "nats",
    about: "`nats up` runs a nats-server for development until Ctrl-C",
    help: "\
Usage: cargo xtask nats up [--port PORT]

Runs a nats-server with JetStream on 127.0.0.1 until Ctrl-C, and prints its URL once it is
ready. Its store lies in a temporary directory, which is removed at the end.
  --port PORT  this port instead of a free one

Takes the server that NATSTREAM_NATS_SERVER names, the one of `cargo xtask setup`, or one
from PATH (2.12 or newer); otherwise it installs the pinned one as `cargo xtask setup` does.
",
    run,
};

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let port = match args.value("--port")? {
        None => None,
        Some(text) => match text.parse() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(Usage(format!("--port takes 1 to 65535, not `{text}`")).into()),
        },
    };
    match args.positional().as_deref() {
        Some("up") => args.finish()?,
        Some(other) => return Err(Usage(format!("unknown command `nats {other}`")).into()),
        None => return Err(Usage("`nats` needs a command: `nats up`".to_owned()).into()),
    }

    let program = provide(workspace, Accept::OnPath)?;
    let mut server = Server::start(&program.path, port)?;
    // The URL alone on stdout, for scripts.
    println!("{}", server.url());
    eprintln!(
        "nats-server {} ({}), store in {}; Ctrl-C stops it",
        program.version,
        program.origin,
        server.dir().display()
    );
    while interrupted().is_none() {
        if let Some(status) = server.ended()? {
            bail!("nats-server ended by itself ({status}):\n{}", server.log());
        }
        thread::sleep(POLL);
    }
    // Being stopped is the ordinary end here.
    Ok(ExitCode::SUCCESS)
}
