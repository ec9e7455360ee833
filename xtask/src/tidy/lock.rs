//! Crates that must not come in through somebody else's defaults.

use super::{Finding, Source};

/// With the reason. ring is the one TLS provider of the tree.
const UNWANTED: &[(&str, &str)] = &[
    (
        "aws-lc-rs",
        "a second TLS provider, slow to build; turn on the feature `ring` of whoever wants it",
    ),
    (
        "aws-lc-sys",
        "a second TLS provider, slow to build; turn on the feature `ring` of whoever wants it",
    ),
    (
        "openssl-sys",
        "needs OpenSSL on every machine; turn off the native TLS of whoever wants it",
    ),
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.name() == "Cargo.lock") {
        for (number, line) in source.lines() {
            let Some(name) = line.strip_prefix("name = ") else {
                continue;
            };
            for (unwanted, reason) in UNWANTED {
                if name.trim_matches('"') == *unwanted {
                    findings.push(source.finding(
                        number,
                        format!("{unwanted}: {reason} (`cargo tree --invert {unwanted}` tells who)"),
                    ));
                }
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
    fn unwanted_crates_are_found() {
        let lock = "[[package]]\nname = \"aws-lc-sys\"\n\n[[package]]\nname = \"ring\"\n\n\
                    [[package]]\nname = \"openssl-sys\"\n";
        assert_eq!(lines(check, "Cargo.lock", lock), [2, 8]);
        assert!(lines(check, "notes.md", lock).is_empty());
    }
}
