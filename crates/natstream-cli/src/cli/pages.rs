//! The commands in the documents are commands of this program.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::Cli;

/// The pages that show commands: those at the top, of `docs` and of the guide.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = Vec::new();
    for dir in ["", "docs", "docs/guide"] {
        let entries = fs::read_dir(root.join(dir)).expect("a directory of the repository");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    pages
}

/// The words of the first command of a line, as a shell reads them: enough of one for what the pages have.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '&' | ';' | '>' | '<') => break,
            (None, '#') if word.is_none() => break,
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// The command lines of a page that run this program.
fn commands(page: &str) -> impl Iterator<Item = Vec<String>> {
    page.lines().filter_map(|line| {
        let words = words(line.strip_prefix("$ ")?);
        let is_variable = |word: &&String| word.contains('=');
        let command: Vec<String> = words.iter().skip_while(is_variable).cloned().collect();
        (command.first()? == "natstream").then_some(command)
    })
}

#[test]
fn a_line_is_read_as_a_shell_reads_it() {
    let read = |line: &str| commands(line).next();
    let command = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    assert_eq!(
        read("$ A=1 natstream call 'a b' \"\" x#y # z"),
        command(&["natstream", "call", "a b", "", "x#y"])
    );
    assert_eq!(read("$ natstream top | less"), command(&["natstream", "top"]));
    assert_eq!(read("$ natstream-x"), None);
    assert_eq!(read("natstream call a"), None);
}

#[test]
fn commands_of_the_pages_are_read() {
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for command in commands(&text) {
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
