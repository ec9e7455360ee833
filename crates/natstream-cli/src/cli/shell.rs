//! Lines as a shell reads them: enough of one for what the help and the pages have.

/// The words of the commands of a line, without what is redirected.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut is_redirected = false;
    // A blank ends the last word.
    for letter in line.chars().chain([' ']) {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '|' | '&' | ';' | '>' | '<') => {
                let ended = word.take().filter(|_| !is_redirected);
                commands.last_mut().expect("there is one").extend(ended);
                match letter {
                    ' ' => {}
                    '>' | '<' => is_redirected = true,
                    _ => {
                        is_redirected = false;
                        commands.push(Vec::new());
                    }
                }
            }
            _ => word.get_or_insert_default().push(letter),
        }
    }
    commands.retain(|command| !command.is_empty());
    commands
}

/// The commands of a line that run this program.
pub(super) fn own_commands(line: &str) -> Vec<Vec<String>> {
    let without_variables = commands(line).into_iter().map(|command| {
        let is_variable = |word: &String| word.contains('=');
        command.into_iter().skip_while(is_variable).collect::<Vec<_>>()
    });
    without_variables
        .filter(|command| command.first().is_some_and(|program| program == "natstream"))
        .collect()
}

#[test]
fn a_line_is_read_as_a_shell_reads_it() {
    for (line, expected) in [
        (
            "A=1 natstream call 'a b' \"\" x#y # z",
            &[&["natstream", "call", "a b", "", "x#y"][..]][..],
        ),
        ("natstream top | less", &[&["natstream", "top"]]),
        ("seq 3|natstream pub a - > out; x", &[&["natstream", "pub", "a", "-"]]),
        (
            "natstream ls && natstream top &",
            &[&["natstream", "ls"], &["natstream", "top"]],
        ),
        ("natstream-x", &[]),
        ("# natstream ls", &[]),
    ] {
        assert_eq!(own_commands(line), expected, "{line}");
    }
}
