//! How items are printed.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The form of an item on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The item and a newline.
    Lines,
    /// The item.
    Raw,
    /// A JSON object on a line.
    JsonLines,
}

impl Format {
    /// Appends item number `seq`, counted from 0.
    pub(crate) fn append(self, seq: u64, item: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Lines => {
                out.extend_from_slice(item);
                out.push(b'\n');
            }
            Self::Raw => out.extend_from_slice(item),
            Self::JsonLines => {
                let line = match std::str::from_utf8(item) {
                    Ok(text) => format!("{{\"seq\":{seq},\"data\":{}}}\n", serde_json::Value::from(text)),
                    Err(_) => format!(
                        "{{\"seq\":{seq},\"data_base64\":\"{}\"}}\n",
                        BASE64_STANDARD.encode(item)
                    ),
                };
                out.extend_from_slice(line.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_printed() {
        for (format, item, printed) in [
            (Format::Lines, &b"text"[..], &b"text\n"[..]),
            (Format::Lines, b"", b"\n"),
            (Format::Raw, b"\xff\n", b"\xff\n"),
            (Format::JsonLines, b"a\"b\n", b"{\"seq\":7,\"data\":\"a\\\"b\\n\"}\n"),
            (Format::JsonLines, b"", b"{\"seq\":7,\"data\":\"\"}\n"),
            (
                Format::JsonLines,
                b"\xff\x00",
                b"{\"seq\":7,\"data_base64\":\"/wA=\"}\n",
            ),
        ] {
            let mut out = b"before ".to_vec();
            format.append(7, item, &mut out);
            assert_eq!(out.strip_prefix(b"before "), Some(printed), "{format:?}");
        }
    }
}
