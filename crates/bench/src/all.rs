//! Every module, one after the other, each as a process of its own: none has another one's memory.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::Serialize;
use tokio::process::Command;
use tokio::time::timeout;

use crate::html;
use crate::report::Report;

/// Run every module, and write report.json and report.html; it takes about a quarter of an hour.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Modules, as they are called here [default: all].
    #[arg(long, value_delimiter = ',', value_parser = MODULES.map(|module| module.name))]
    only: Vec<String>,
    /// So little that it only shows that everything runs.
    #[arg(long)]
    quick: bool,
    /// Where the report is written.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Seconds that a module may take; one that takes longer is ended, and the others go on.
    #[arg(long, default_value_t = 600)]
    limit: u64,
}

struct Module {
    name: &'static str,
    /// So that all together take a quarter of an hour; nothing where the defaults do.
    options: &'static [&'static str],
    quick: &'static [&'static str],
}

const MODULES: [Module; 12] = [
    Module {
        name: "stream",
        options: &[],
        quick: &["--items", "100000", "--rounds", "1"],
    },
    Module {
        name: "latency",
        options: &[],
        quick: &["--calls", "200", "--many", "2000", "--rounds", "1"],
    },
    Module {
        name: "streams",
        options: &[],
        quick: &["--items", "100000", "--rounds", "1", "--streams", "1,10,1000"],
    },
    Module {
        name: "slow",
        options: &[],
        quick: &["--fast-items", "100000", "--slow-items", "20000", "--rounds", "1"],
    },
    Module {
        name: "idle",
        options: &[],
        quick: &["--streams", "200", "--rounds", "1"],
    },
    Module {
        name: "scale",
        options: &[],
        quick: &["--items", "50000", "--mib", "32", "--rounds", "1"],
    },
    Module {
        name: "far",
        options: &["--mbytes", "150"],
        quick: &["--mbytes", "2", "--rounds", "1"],
    },
    Module {
        name: "bus",
        options: &[
            "--quick",
            "--events",
            "100000",
            "--rounds",
            "3",
            "--windows",
            "1000,4000",
            "--one-by-one",
            "2000",
        ],
        quick: &[
            "--quick",
            "--events",
            "2000",
            "--rounds",
            "1",
            "--windows",
            "1000",
            "--one-by-one",
            "100",
        ],
    },
    Module {
        name: "consume",
        options: &["--messages", "100000", "--rounds", "3"],
        quick: &["--messages", "2000", "--rounds", "1", "--batches", "100"],
    },
    Module {
        name: "kv",
        options: &[],
        quick: &["--values", "500", "--rounds", "1"],
    },
    Module {
        name: "object",
        options: &["--rounds", "3"],
        quick: &["--mib", "8", "--rounds", "1"],
    },
    Module {
        name: "sink",
        options: &["--rounds", "3"],
        quick: &["--lines", "100000", "--commit-lines", "100000", "--rounds", "1"],
    },
];

/// What is in report.json.
#[derive(Debug, Serialize)]
pub(crate) struct Everything {
    pub(crate) quick: bool,
    pub(crate) seconds: f64,
    pub(crate) failures: Vec<Failure>,
    pub(crate) reports: Vec<Report>,
}

/// A module that has no report.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) module: String,
    pub(crate) error: String,
}

pub(crate) async fn run(options: &Options, is_json: bool) -> Result<()> {
    // Where nobody may write is better known before.
    fs::create_dir_all(&options.out).with_context(|| format!("cannot create {}", options.out.display()))?;
    let began = Instant::now();
    let mut all = Everything {
        quick: options.quick,
        seconds: 0.0,
        failures: Vec::new(),
        reports: Vec::new(),
    };
    for module in MODULES {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == module.name) {
            continue;
        }
        let started = Instant::now();
        match measure(&module, options).await {
            Ok(report) => {
                eprintln!("{}: {:.0} s", module.name, started.elapsed().as_secs_f64());
                all.reports.push(report);
            }
            Err(error) => {
                eprintln!("{} failed: {error:#}", module.name);
                all.failures.push(Failure {
                    module: module.name.to_owned(),
                    error: format!("{error:#}"),
                });
            }
        }
    }
    all.seconds = began.elapsed().as_secs_f64();
    let (json, page) = (options.out.join("report.json"), options.out.join("report.html"));
    fs::write(&json, serde_json::to_string_pretty(&all)?)?;
    fs::write(&page, html::page(&all)?)?;
    if is_json {
        println!("{}", serde_json::to_string(&all)?);
    } else {
        println!("{}\n{}", json.display(), page.display());
    }
    ensure!(all.failures.is_empty(), "{} modules failed", all.failures.len());
    Ok(())
}

async fn measure(module: &Module, options: &Options) -> Result<Report> {
    let settings = if options.quick { module.quick } else { module.options };
    let child = Command::new(std::env::current_exe()?)
        .arg(module.name)
        .args(settings)
        .arg("--json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let limit = Duration::from_secs(options.limit);
    let Ok(output) = timeout(limit, child.wait_with_output()).await else {
        bail!("it did not end within {limit:?}");
    };
    let output = output?;
    ensure!(output.status.success(), "{}; its error stands above", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::Cli;

    #[test]
    fn every_module_takes_the_options_that_it_is_given() {
        for module in MODULES {
            for options in [module.options, module.quick] {
                let words = [&["bench", module.name], options, &["--json"]].concat();
                Cli::try_parse_from(words).unwrap();
            }
        }
    }
}
