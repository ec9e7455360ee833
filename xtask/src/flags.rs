//! The arguments of a command.

use std::{error::Error, fmt};

/// A mistake on the command line: exit code 2, with the command's help.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// What stands after the command. Each method takes what it understands; [`Args::finish`]
/// refuses the rest.
#[derive(Debug)]
pub(crate) struct Args {
    own: Vec<String>,
    trailing: Vec<String>,
}

impl Args {
    pub(crate) fn new(args: impl Iterator<Item = String>) -> Self {
        let mut own: Vec<String> = args.collect();
        let mut trailing = Vec::new();
        if let Some(at) = own.iter().position(|arg| arg == "--") {
            trailing = own.split_off(at);
            trailing.remove(0);
        }
        Self { own, trailing }
    }

    /// Whether `name` is there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.own.len();
        self.own.retain(|arg| arg != name);
        self.own.len() < before
    }

    /// The value of `--name VALUE` or `--name=VALUE`.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>, Usage> {
        let Some(at) = self.own.iter().position(|arg| {
            arg.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        }) else {
            return Ok(None);
        };
        let arg = self.own.remove(at);
        if let Some((_, value)) = arg.split_once('=') {
            return Ok(Some(value.to_owned()));
        }
        if at == self.own.len() {
            return Err(Usage(format!("{name} needs a value")));
        }
        Ok(Some(self.own.remove(at)))
    }

    /// The next argument that is no option.
    pub(crate) fn positional(&mut self) -> Option<String> {
        let at = self.own.iter().position(|arg| !arg.starts_with('-'))?;
        Some(self.own.remove(at))
    }

    /// What stands after `--`.
    pub(crate) fn trailing(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trailing)
    }

    /// Refuses what nobody has taken.
    pub(crate) fn finish(self) -> Result<(), Usage> {
        match self.own.iter().chain(&self.trailing).next() {
            None => Ok(()),
            Some(arg) => Err(Usage(format!("unexpected argument `{arg}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn each_method_takes_its_part() {
        let mut args = args("up --port 4222 --check -- one --two");
        assert_eq!(args.value("--port").unwrap().as_deref(), Some("4222"));
        assert!(args.flag("--check"));
        assert!(!args.flag("--check"));
        assert_eq!(args.positional().as_deref(), Some("up"));
        assert_eq!(args.positional(), None);
        assert_eq!(args.trailing(), ["one", "--two"]);
        args.finish().unwrap();
    }

    #[test]
    fn values_also_follow_an_equals_sign() {
        assert_eq!(args("--port=1").value("--port").unwrap().as_deref(), Some("1"));
        assert_eq!(args("--portal 1").value("--port").unwrap(), None);
        args("--port").value("--port").unwrap_err();
    }

    #[test]
    fn what_nobody_takes_is_refused() {
        args("--unknown").finish().unwrap_err();
        args("-- trailing").finish().unwrap_err();
    }
}
