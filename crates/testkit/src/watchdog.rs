//! Ends a server whose test process was killed.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Reads the current server's pid from each line (an empty line: none). When the pipe ends,
/// which it also does when the test process is killed, that server ends and its directory goes.
///
/// The server may still be creating files when `rm` runs first, hence the second attempt.
const SCRIPT: &str = r#"
while read -r line; do pid=$line; done
[ -z "$pid" ] || kill -9 "$pid"
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// A shell that outlives this process just long enough to clean up after it.
///
/// Linux could end children with their parent (`PR_SET_PDEATHSIG`), but only through
/// `unsafe`, and bound to the life of a thread instead of the process.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Starts watching over `dir`. Comes before the server, so that no gap is left.
    pub(crate) fn new(dir: &Path) -> io::Result<Self> {
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(dir)
            .stdin(Stdio::piped())
            // Holding on to these would keep `cargo test | tee` waiting.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C ends the terminal's foreground group; the watchdog's work begins then.
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }

    /// From now on, `pid` ends with this process.
    pub(crate) fn guard(&mut self, pid: u32) {
        self.tell(&format!("{pid}\n"));
    }

    /// No server runs; its pid may belong to somebody else from now on.
    pub(crate) fn release(&mut self) {
        self.tell("\n");
    }

    fn tell(&mut self, line: &str) {
        if let Some(stdin) = &mut self.shell.stdin {
            // A watchdog that somebody killed is no reason to fail a test.
            let _ = stdin.write_all(line.as_bytes());
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
