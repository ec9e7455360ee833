//! The commands in the documents are commands of this program.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Cli, shell};

/// The pages that show commands: those at the top, of `docs`, of the guide and of this package.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = Vec::new();
    for dir in ["", "docs", "docs/guide", "crates/natstream-cli"] {
        let entries = fs::read_dir(root.join(dir)).expect("a directory of the repository");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    pages
}

#[test]
fn commands_of_the_pages_are_read() {
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let shown = text.lines().filter_map(|line| line.strip_prefix("$ "));
        for command in shown.flat_map(shell::own_commands) {
            let read = Cli::read(command.iter().map(OsString::from));
            if let Err(error) = read {
                panic!("{}: `{}`: {error}", page.display(), command.join(" "));
            }
            count += 1;
        }
    }
    // Those of today are some fifty.
    assert!(count > 30, "{count} commands were found");
}
