//! Text that is true on one machine only.

use super::{Finding, Source};

/// Beginnings of absolute paths. In pieces, since this file is checked too.
const PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Which registry serves a machine is for its owner to configure.
const HOSTS: &[&str] = &[
    concat!("pypi", ".org"),
    concat!("python", "hosted"),
    concat!("npm", "js."),
    concat!("index", ".crates"),
    concat!("deb.", "debian.org"),
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Lock files are cargo's.
    for source in sources.iter().filter(|source| source.name() != "Cargo.lock") {
        for (number, line) in source.lines() {
            for path in PATHS.iter().filter(|path| contains_absolute(line, path)) {
                findings.push(source.finding(
                    number,
                    format!("`{path}` exists on one machine only; write the path from the root of the repository"),
                ));
            }
            for host in HOSTS.iter().filter(|host| line.contains(**host)) {
                findings.push(source.finding(
                    number,
                    format!("`{host}` is a registry's host; leave it to the tool's own configuration"),
                ));
            }
        }
    }
    findings
}

/// Whether an absolute path begins with `start`: `a/x/`, `~/x/` and `$DIR/x/` do not count for `/x/`.
fn contains_absolute(line: &str, start: &str) -> bool {
    line.match_indices(start)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-.~})".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    #[test]
    fn paths_of_a_machine_are_found() {
        let text = format!(
            "fine\ncd {}x\n\"file://{}y\"\n~{}z\nsrc{}z\n",
            PATHS[0], PATHS[2], PATHS[0], PATHS[1]
        );
        assert_eq!(lines(check, "README.md", &text), [2, 3]);
    }

    #[test]
    fn registry_hosts_are_found() {
        for host in HOSTS {
            let text = format!("see https://{host}/x\n");
            assert_eq!(lines(check, "docs/setup.md", &text), [1], "{host}");
            assert!(lines(check, "Cargo.lock", &text).is_empty());
        }
        assert!(lines(check, "README.md", "https://crates.io and https://docs.rs\n").is_empty());
    }
}
