//! Lock files of npm.

use super::{Finding, Source};

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.name() == "package-lock.json") {
        for (number, line) in source.lines() {
            if line.trim_start().starts_with("\"resolved\"") || line.contains("://") {
                findings.push(source.finding(
                    number,
                    "a registry's address; write the file again with \
                     `npm install --package-lock-only --omit-lockfile-registry-resolved`",
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::lines;

    #[test]
    fn addresses_of_registries_are_found() {
        let lock = "{\n  \"version\": \"1.0.0\",\n  \"resolved\": \"https://mirror.example/a.tgz\",\n  \
                    \"funding\": \"https://example\"\n}\n";
        assert_eq!(lines(check, "tests/interop/js/package-lock.json", lock), [3, 4]);
        assert!(lines(check, "docs/example.json", lock).is_empty());
    }
}
