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
}

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
            Ok(Package { name, tests })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_targets_are_found_and_sorted() {
        let text = r#"{"packages": [{"name": "integration", "targets": [
            {"kind": ["test"], "name": "restart"},
            {"kind": ["lib"], "name": "integration"},
            {"kind": ["test"], "name": "order"}]}]}"#;
        let packages = parse(text).unwrap();
        assert_eq!(packages[0].name, SUITES);
        assert_eq!(packages[0].tests, ["order", "restart"]);
        parse("{}").unwrap_err();
    }
}
