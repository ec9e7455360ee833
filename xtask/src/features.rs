//! `cargo xtask features`

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{
    Task,
    flags::Args,
    metadata::{self, Package},
    process::{Interrupted, run as run_command},
    workspace::Workspace,
};

pub(crate) const TASK: Task = Task {
    name: "features",
    about: "build every published crate with each of its features",
    help: "\
Usage: cargo xtask features [PACKAGE]

Runs clippy on the libraries and programs of every published crate, or of PACKAGE alone, without
features, with each one alone, with those by default, with all, and with some pairs that touch
each other; warnings are errors. All sets are tried; those that fail are listed at the end.

Takes minutes: dependencies are checked with other features, too.
",
    run,
};

/// Features of which one changes what the other does.
const PAIRS: &[(&str, &str)] = &[
    ("natstream", "client,eventbus"),
    ("natstream", "eventbus,recorder"),
    ("natstream", "recorder,zstd"),
    ("natstream-recorder", "gzip,jetstream"),
    ("eventbus", "kv,object"),
];

fn run(workspace: &Workspace, mut args: Args) -> Result<ExitCode> {
    let only = args.positional();
    args.finish()?;
    let packages = metadata::packages(workspace)?;
    let sets: Vec<_> = packages
        .iter()
        .filter(|package| package.is_published && only.as_ref().is_none_or(|only| *only == package.name))
        .flat_map(sets)
        .collect();
    if sets.is_empty() {
        bail!("no published crate has the name {}", only.unwrap_or_default());
    }
    let mut failed = Vec::new();
    for set in &sets {
        let command = ["clippy", "--lib", "--bins", "--no-deps"];
        let denial = ["--", "--deny", "warnings"];
        let args = command.into_iter().chain(set.iter().map(String::as_str)).chain(denial);
        match run_command(workspace, workspace.cargo(args)) {
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => failed.push(error.to_string()),
            Ok(()) => {}
        }
    }
    match failed.len() {
        0 => println!("{} sets of features build without warnings", sets.len()),
        count => bail!("{count} of {} sets of features:\n{}", sets.len(), failed.join("\n")),
    }
    Ok(ExitCode::SUCCESS)
}

/// The arguments that select a package with each of its sets of features.
fn sets(package: &Package) -> Vec<Vec<String>> {
    let with = |options: &[&str]| {
        let args = [&["--package", package.name.as_str()], options].concat();
        args.into_iter().map(str::to_owned).collect()
    };
    let mut sets = vec![with(&["--no-default-features"])];
    let pairs = PAIRS.iter().filter(|(name, _)| *name == package.name);
    let features = package.features.iter().map(String::as_str);
    for features in features.chain(pairs.map(|(_, pair)| *pair)) {
        sets.push(with(&["--no-default-features", "--features", features]));
    }
    if package.has_defaults {
        sets.push(with(&[]));
    }
    // Of one feature, it is the set above.
    if package.features.len() > 1 {
        sets.push(with(&["--all-features"]));
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_stands_alone_and_beside_all_others() {
        let package = Package {
            name: "eventbus".to_owned(),
            tests: Vec::new(),
            features: vec!["kv".to_owned(), "object".to_owned()],
            has_defaults: true,
            is_published: true,
            lacks: Vec::new(),
        };
        let sets: Vec<_> = sets(&package).iter().map(|set| set.join(" ")).collect();
        assert_eq!(
            sets,
            [
                "--package eventbus --no-default-features",
                "--package eventbus --no-default-features --features kv",
                "--package eventbus --no-default-features --features object",
                "--package eventbus --no-default-features --features kv,object",
                "--package eventbus",
                "--package eventbus --all-features",
            ]
        );
    }

    #[test]
    fn pairs_are_features_of_published_crates() {
        let packages = metadata::packages(&Workspace::open().unwrap()).unwrap();
        for (name, pair) in PAIRS {
            let package = packages.iter().find(|package| package.name == *name).unwrap();
            assert!(package.is_published, "{name}");
            for feature in pair.split(',') {
                assert!(
                    package.features.iter().any(|other| other == feature),
                    "{name}: {feature}"
                );
            }
        }
    }
}
