//! How items are printed.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use natstream::async_nats::HeaderMap;

/// How items are printed, as the command line has it.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct FormatArgs {
    /// Print payloads as they are, without a newline after each.
    #[arg(long, conflicts_with = "jsonl")]
    raw: bool,
    /// Print each as a JSON object on a line, with its payload as data, or as data_base64 when it is not UTF-8.
    #[arg(long)]
    jsonl: bool,
}

impl FormatArgs {
    pub(crate) fn format(self) -> Format {
        match (self.raw, self.jsonl) {
            (true, _) => Format::Raw,
            (_, true) => Format::JsonLines,
            _ => Format::Lines,
        }
    }
}

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
    /// Appends an item. `fields` are those of its JSON object that stand before the data.
    pub(crate) fn append(self, fields: impl FnOnce() -> String, item: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Lines => {
                out.extend_from_slice(item);
                out.push(b'\n');
            }
            Self::Raw => out.extend_from_slice(item),
            Self::JsonLines => {
                let data = match std::str::from_utf8(item) {
                    Ok(text) => format!("\"data\":{}", serde_json::Value::from(text)),
                    Err(_) => format!("\"data_base64\":\"{}\"", BASE64_STANDARD.encode(item)),
                };
                out.extend_from_slice(format!("{{{},{data}}}\n", fields()).as_bytes());
            }
        }
    }
}

/// The fields for the headers of a message, where it has some: a list of values for each name.
pub(crate) fn headers(headers: Option<&HeaderMap>) -> Option<String> {
    let headers = headers.filter(|headers| !headers.is_empty())?;
    Some(format!("\"headers\":{}", header_values(headers)))
}

/// A list of values for each name.
pub(crate) fn header_values(headers: &HeaderMap) -> serde_json::Value {
    let fields: serde_json::Map<_, _> = headers
        .iter()
        .map(|(name, values)| {
            let values: Vec<_> = values.iter().map(|value| value.as_str()).collect();
            (name.to_string(), values.into())
        })
        .collect();
    fields.into()
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
            format.append(|| "\"seq\":7".to_owned(), item, &mut out);
            assert_eq!(out.strip_prefix(b"before "), Some(printed), "{format:?}");
        }
    }
}
