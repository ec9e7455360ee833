//! How many instructions the hot paths take, beside what they took before: a guard that noise does not trip.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::{process::run as run_command, workspace::Workspace};

/// What is counted, as `bench hot` calls it.
const PATHS: [&str; 5] = ["encode", "decode", "step", "publish", "append"];

/// Two runs, whose difference leaves out how the program begins and ends.
const TIMES: [u64; 2] = [2_000, 12_000];

/// Where the counts of before are kept.
const BASELINE: &str = "crates/bench/instructions.json";

/// What may be more, or less, before it is told: another compiler or library moves counts a little.
const TOLERANCE: f64 = 0.03;

type Counts = BTreeMap<String, f64>;

/// Counts, and compares with the baseline or replaces it.
pub(crate) fn check(workspace: &Workspace, updates: bool) -> Result<()> {
    run_command(workspace, workspace.cargo(["build", "--release", "--package", "bench"]))?;
    let bench = workspace.target().join("release/bench");
    let mut counts = Counts::new();
    for path in PATHS {
        let [few, many] = TIMES.map(|times| count(&bench, path, times));
        let (few, many) = (few?, many?);
        let count = many.saturating_sub(few) as f64 / (TIMES[1] - TIMES[0]) as f64;
        counts.insert(path.to_owned(), (count * 10.0).round() / 10.0);
    }
    let file = workspace.root().join(BASELINE);
    if updates {
        let text = serde_json::to_string_pretty(&counts)? + "\n";
        fs::write(&file, text).with_context(|| format!("cannot write {BASELINE}"))?;
        println!("{BASELINE} was written");
        return Ok(());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {BASELINE}"))?;
    let before: Counts = serde_json::from_str(&text).with_context(|| format!("{BASELINE} is damaged"))?;
    println!("{:8} {:>12} {:>12}", "", "before", "now");
    for (path, now) in &counts {
        let before = before.get(path).copied().unwrap_or(f64::NAN);
        println!(
            "{path:8} {before:12.1} {now:12.1} {:+7.1} %",
            (now / before - 1.0) * 100.0
        );
    }
    let changed = changed(&before, &counts);
    ensure!(
        changed.is_empty(),
        "instructions of {} have changed by more than {:.0} %: find out why, or keep the new counts with \
         `cargo xtask bench --check --update`",
        changed.join(", "),
        TOLERANCE * 100.0
    );
    Ok(())
}

/// Paths that take clearly more, or clearly less so that the baseline would hide what comes next.
fn changed<'a>(before: &Counts, now: &'a Counts) -> Vec<&'a str> {
    let is_near = |path: &str, now: f64| {
        let before = before.get(path).copied().unwrap_or(f64::NAN);
        (now / before - 1.0).abs() <= TOLERANCE
    };
    let far = now.iter().filter(|(path, now)| !is_near(path, **now));
    far.map(|(path, _)| path.as_str()).collect()
}

fn count(bench: &Path, path: &str, times: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(bench)
        .args(["hot", path, &times.to_string()])
        .output()
        .context("cannot run valgrind, which counts; Debian has it as a package: `apt-get install valgrind`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "`bench hot {path} {times}` failed below valgrind: {}\n{said}",
            output.status
        );
    }
    collected(&said).with_context(|| format!("valgrind does not say what it has counted:\n{said}"))
}

/// What callgrind says at its end.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found() {
        let said = "==7== Events    : Ir\n==7== Collected : 4329785\n==7==\n";
        assert_eq!(collected(said), Some(4_329_785));
        assert_eq!(collected("==7== Events : Ir"), None);
    }

    #[test]
    fn more_and_less_and_new_paths_are_told() {
        let counts = |pairs: &[(&str, f64)]| pairs.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect();
        let before: Counts = counts(&[("encode", 100.0), ("decode", 100.0), ("step", 100.0)]);
        let now: Counts = counts(&[("encode", 102.9), ("decode", 103.1), ("step", 96.0), ("append", 1.0)]);
        assert_eq!(changed(&before, &now), ["append", "decode", "step"]);
    }
}
