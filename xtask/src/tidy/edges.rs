//! Which of our crates may depend on which.

use super::{
    Finding, Source,
    manifest::{entries, is_member},
};

/// One of our packages, and those of ours that it may depend on.
struct Node {
    name: &'static str,
    normal: &'static [&'static str],
    /// For tests only, besides.
    dev: &'static [&'static str],
}

const NOTHING: &[&str] = &[];
const TESTKIT: &[&str] = &["testkit"];

/// The picture of ARCHITECTURE.md. A new arrow in it is rare, and is argued for there.
const EDGES: &[Node] = &[
    Node {
        name: "bench",
        // Its loads move to natstream-cli when `natstream bench` comes.
        normal: &["natstream", "natstream-cli", "testkit"],
        dev: NOTHING,
    },
    Node {
        name: "eventbus",
        normal: &["natstream-connect", "stream-sinks"],
        dev: TESTKIT,
    },
    Node {
        name: "examples",
        normal: &["natstream"],
        dev: TESTKIT,
    },
    Node {
        name: "integration",
        normal: &["natstream", "testkit"],
        dev: NOTHING,
    },
    Node {
        name: "natstream",
        normal: &[
            "eventbus",
            "natstream-connect",
            "natstream-recorder",
            "stream-client",
            "stream-proto",
            "stream-server",
            "stream-sinks",
        ],
        dev: TESTKIT,
    },
    Node {
        name: "natstream-cli",
        normal: &["natstream"],
        dev: TESTKIT,
    },
    Node {
        name: "natstream-connect",
        normal: NOTHING,
        dev: TESTKIT,
    },
    Node {
        name: "natstream-recorder",
        normal: &["eventbus", "natstream-connect", "stream-sinks"],
        dev: TESTKIT,
    },
    Node {
        name: "stream-client",
        normal: &["natstream-connect", "stream-proto"],
        dev: TESTKIT,
    },
    Node {
        name: "stream-proto",
        normal: NOTHING,
        dev: NOTHING,
    },
    Node {
        name: "stream-server",
        normal: &["natstream-connect", "stream-proto"],
        dev: TESTKIT,
    },
    Node {
        name: "stream-sinks",
        normal: NOTHING,
        dev: TESTKIT,
    },
    Node {
        name: "testkit",
        normal: NOTHING,
        dev: NOTHING,
    },
    Node {
        name: "xtask",
        normal: NOTHING,
        dev: NOTHING,
    },
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| is_member(source)) {
        let entries = entries(source);
        let name = entries
            .iter()
            .find(|entry| entry.section == "package" && entry.key == "name");
        let (name, line) = name.map_or(("", 1), |entry| (entry.value.trim_matches('"'), entry.line));
        let Some(node) = EDGES.iter().find(|node| node.name == name) else {
            findings.push(source.finding(
                line,
                format!("`{name}` is not in the picture; add it to EDGES in xtask/src/tidy/edges.rs"),
            ));
            continue;
        };
        for entry in &entries {
            let Some(package) = entry.package() else {
                continue;
            };
            if !EDGES.iter().any(|node| node.name == package) {
                continue;
            }
            let allowed = node.normal.contains(&package) || (entry.is_dev() && node.dev.contains(&package));
            if !allowed {
                findings.push(source.finding(
                    entry.line,
                    format!(
                        "`{name}` may not depend on `{package}`{}; move the code, or argue for the edge \
                         in ARCHITECTURE.md and add it to EDGES in xtask/src/tidy/edges.rs",
                        if node.dev.contains(&package) {
                            " outside its tests"
                        } else {
                            ""
                        }
                    ),
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

    fn client(dependencies: &str) -> Vec<usize> {
        let manifest = format!("[package]\nname = \"stream-client\"\n{dependencies}");
        lines(check, "crates/stream-client/Cargo.toml", &manifest)
    }

    #[test]
    fn edges_of_the_picture_pass() {
        let good = "[dependencies]\nnatstream-connect.workspace = true\n\
                    proto = { package = \"stream-proto\", workspace = true }\ntokio.workspace = true\n\
                    [dev-dependencies]\ntestkit.workspace = true\n";
        assert!(client(good).is_empty());
    }

    #[test]
    fn other_edges_are_found() {
        assert_eq!(client("[dependencies]\nstream-server.workspace = true\n"), [4]);
        assert_eq!(
            client("[dependencies]\nx = { package = \"natstream\", workspace = true }\n"),
            [4]
        );
        assert_eq!(client("[dev-dependencies]\nstream-server.workspace = true\n"), [4]);
        assert_eq!(client("[dependencies]\ntestkit.workspace = true\n"), [4]);
        assert_eq!(
            client("[target.'cfg(unix)'.dependencies.eventbus]\nworkspace = true\n"),
            [4]
        );
    }

    #[test]
    fn packages_outside_the_picture_are_found() {
        assert_eq!(
            lines(check, "crates/new/Cargo.toml", "[package]\nname = \"new\"\n"),
            [2]
        );
    }
}
