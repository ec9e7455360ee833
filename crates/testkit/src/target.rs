//! Where cargo and xtask put what tests start.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The target directory; a relative one in `CARGO_TARGET_DIR` counts from the workspace, as xtask has it.
pub(crate) fn directory(variable: Option<OsString>) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate lies in ROOT/crates/testkit");
    root.join(
        variable
            .filter(|dir| !dir.is_empty())
            .unwrap_or_else(|| "target".into()),
    )
}

/// The program `natstream`, which lies beside the directory of this test's own.
///
/// # Panics
///
/// When it is not there, with the command that builds it.
pub(crate) fn natstream() -> PathBuf {
    let test = env::current_exe().expect("a test knows where its program is");
    let profile = test.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let program = profile.join(format!("natstream{}", env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "there is no {}: run `cargo build -p natstream-cli{}`",
        program.display(),
        if profile.ends_with("release") { " --release" } else { "" }
    );
    program
}
