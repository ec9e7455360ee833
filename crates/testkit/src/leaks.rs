//! Levels of this process that must return to where they were.

use std::fs;

/// How many tasks of the current tokio runtime have not ended.
///
/// Guards of this crate that run have tasks too: see [`Proxy`](crate::Proxy). Others have none.
///
/// # Panics
///
/// Outside of a runtime.
#[must_use]
pub fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// The resident memory of a process in bytes, as Linux tells it (`VmRSS`): of this one by
/// `std::process::id()`, of a server by [`NatsServer::pid`](crate::NatsServer::pid).
///
/// Allocators keep what was freed, so compare with a generous margin, and after a warm-up.
///
/// # Panics
///
/// When there is no such process, or no `/proc`.
#[must_use]
pub fn resident_memory(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    parse(&status).unwrap_or_else(|| panic!("no resident memory in {path}: is the process a zombie?"))
}

fn parse(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_status_is_read() {
        let status = "Name:\tcargo\nVmHWM:\t  2000 kB\nVmRSS:\t  1234 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(parse(status), Some(1234 * 1024));
        assert_eq!(parse("Name:\tzombie\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_is_touched_counts() {
        let before = resident_memory(std::process::id());
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = resident_memory(std::process::id());
        drop(touched);
        assert!(after >= before + (48 << 20), "{before} -> {after}");
    }
}
