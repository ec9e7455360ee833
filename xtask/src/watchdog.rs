//! Ends a server whose xtask was killed.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

/// The twin of testkit's, which xtask does not depend on because it would wait for tokio to compile.
const SCRIPT: &str = r#"
while read -r line; do pid=$line; done
[ -z "$pid" ] || kill -9 "$pid"
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"#;

/// A shell that outlives this process just long enough to clean up after it.
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    pub(crate) fn new(dir: &Path) -> io::Result<Self> {
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }

    /// From now on, `pid` ends with this process.
    pub(crate) fn guard(&mut self, pid: u32) {
        self.tell(&format!("{pid}\n"));
    }

    /// The process has ended; its pid may belong to somebody else from now on.
    pub(crate) fn release(&mut self) {
        self.tell("\n");
    }

    fn tell(&mut self, line: &str) {
        if let Some(stdin) = &mut self.shell.stdin {
            // Without a watchdog the server still ends in the ordinary way.
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
