//! What /proc says of this process.

use std::fs;

/// Resident memory of this process in MiB: now, and at its highest.
pub(super) fn resident() -> std::io::Result<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib / 1024)
    };
    Ok((field("VmRSS:").unwrap_or_default(), field("VmHWM:").unwrap_or_default()))
}
