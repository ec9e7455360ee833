//! What cargo knows about our packages.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::workspace::Workspace;

/// A package of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// The names of its `[[test]]` targets, sorted.
    pub(crate) tests: Vec<String>,
    /// Its features, sorted, without `default`.
    pub(crate) features: Vec<String>,
    /// Whether it has features that are on by default.
    pub(crate) has_defaults: bool,
    /// Whether others get it.
    pub(crate) is_published: bool,
    /// What crates.io asks for and is not there.
    pub(crate) lacks: Vec<&'static str>,
}

/// What a manifest says to those who look for a crate.
const FOR_READERS: [&str; 6] = [
    "categories",
    "description",
    "documentation",
    "keywords",
    "license",
    "readme",
];

/// The package whose test targets are the suites.
pub(crate) const SUITES: &str = "integration";

/// All packages of the workspace.
pub(crate) fn packages(workspace: &Workspace) -> Result<Vec<Package>> {
    let command = workspace
        .cargo(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .quiet();
    let shown = workspace.show(&command);
    let text = command.read().with_context(|| format!("`{shown}`"))?;
    parse(&text).with_context(|| format!("cannot read the answer of `{shown}`"))
}

fn parse(text: &str) -> Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(text)?;
    let packages = metadata["packages"].as_array().context("it has no packages")?;
    packages
        .iter()
        .map(|package| {
            let targets = package["targets"].as_array().context("a package has no targets")?;
            let mut tests: Vec<String> = targets
                .iter()
                .filter(|target| target["kind"][0] == "test")
                .filter_map(|target| target["name"].as_str().map(str::to_owned))
                .collect();
            tests.sort();
            let name = package["name"].as_str().context("a package has no name")?.to_owned();
            let all: Vec<String> = package["features"]
                .as_object()
                .map(|features| features.keys().cloned().collect())
                .unwrap_or_default();
            let (defaults, mut features): (Vec<_>, Vec<_>) = all.into_iter().partition(|name| name == "default");
            features.sort();
            let is_empty = |value: &Value| match value {
                Value::Array(values) => values.is_empty(),
                Value::String(text) => text.is_empty(),
                _ => true,
            };
            let lacks = FOR_READERS.into_iter().filter(|key| is_empty(&package[*key]));
            Ok(Package {
                name,
                tests,
                features,
                has_defaults: !defaults.is_empty(),
                is_published: package["publish"].is_null(),
                lacks: lacks.collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_targets_are_found_and_sorted() {
        let text = r#"{"packages": [{"name": "integration", "publish": [], "targets": [
            {"kind": ["test"], "name": "restart"},
            {"kind": ["lib"], "name": "integration"},
            {"kind": ["test"], "name": "order"}]}]}"#;
        let packages = parse(text).unwrap();
        assert_eq!(packages[0].name, SUITES);
        assert_eq!(packages[0].tests, ["order", "restart"]);
        assert!(!packages[0].is_published);
        parse("{}").unwrap_err();
    }

    #[test]
    fn what_a_crate_lacks_is_found() {
        let text = r#"{"packages": [{"name": "a", "publish": null, "targets": [], "license": "MIT",
            "description": "", "keywords": [], "categories": ["x"], "documentation": "https://x", "readme": null,
            "features": {"b": [], "default": ["b"], "a": []}}]}"#;
        let package = parse(text).unwrap().remove(0);
        assert!(package.is_published && package.has_defaults);
        assert_eq!(package.features, ["a", "b"]);
        assert_eq!(package.lacks, ["description", "keywords", "readme"]);
    }
}
