//! The file in which nats-server tells its ports.

use std::{fs, path::Path};

use serde_json::Value;

/// The ports a server listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) client: u16,
    pub(crate) monitoring: Option<u16>,
}

impl Ports {
    /// Reads the only `*.ports` file in `dir`; `None` while it is missing or half written.
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        fs::read_dir(dir)
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "ports"))
            .and_then(|path| Self::parse(&fs::read_to_string(path).ok()?))
    }

    fn parse(text: &str) -> Option<Self> {
        let ports: Value = serde_json::from_str(text).ok()?;
        // Each key holds a list of URLs such as "nats://127.0.0.1:43213".
        let port = |key: &str| -> Option<u16> { ports[key][0].as_str()?.rsplit_once(':')?.1.parse().ok() };
        Some(Self {
            client: port("nats")?,
            monitoring: port("monitoring"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ports_file_is_read_only_when_it_is_complete() {
        let text = r#"{"nats": ["nats://127.0.0.1:43213"], "monitoring": ["http://127.0.0.1:8222"]}"#;
        assert_eq!(
            Ports::parse(text),
            Some(Ports {
                client: 43213,
                monitoring: Some(8222)
            })
        );
        for end in 0..text.len() {
            assert_eq!(Ports::parse(&text[..end]), None, "cut at {end}");
        }
        assert_eq!(
            Ports::parse(r#"{"nats":["nats://127.0.0.1:4222"]}"#),
            Some(Ports {
                client: 4222,
                monitoring: None
            })
        );
    }
}
