//! The crate links into a program without the standard library (invariant 1 of ARCHITECTURE.md).
//!
//! The program has its own panic handler, so it would not link if anything below it brought `std` along. It is a package
//! of its own, since features that the workspace turns on would hide what the crate needs alone.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

#[test]
fn a_program_without_std_links_the_crate_and_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no_std_app");
    fs::create_dir_all(&package).expect("a directory for the package");
    let manifest = format!(
        r#"
[package]
name = "no_std_app"
edition = "2024"

[[bin]]
name = "no_std_app"
path = {program:?}

[dependencies]
stream-proto = {{ path = {root:?} }}

# Unwinding needs `std`.
[profile.dev]
panic = "abort"

[workspace]
"#,
        program = root.join("tests/no_std/app.rs"),
    );
    fs::write(package.join("Cargo.toml"), manifest).expect("the manifest is written");
    // The versions of the workspace, which are there without a network.
    if let Some(lock) = root
        .ancestors()
        .map(|above| above.join("Cargo.lock"))
        .find(|lock| lock.exists())
    {
        fs::copy(lock, package.join("Cargo.lock")).expect("the versions are copied");
    }
    let target = package.join("target");
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--offline"])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let status = Command::new(target.join("debug/no_std_app"))
        .status()
        .expect("the program runs");
    assert_eq!(status.code(), Some(0));
}
