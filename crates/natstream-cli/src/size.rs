//! Sizes in bytes, as people write them.

/// Largest size that is taken: what the protocol can say, 2^62 − 1.
const MAX: u64 = (1 << 62) - 1;

const UNITS: [(&str, u64); 7] = [
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
];

/// Reads `64KiB`, `1MiB`, `1GiB`, `64KB` (64,000 bytes), `100B` or plain bytes.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    const FORM: &str = "a size is a number of bytes with or without a unit: 65536, 64KiB, 1MiB";
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(FORM.to_owned());
    }
    let unit = unit.trim().to_ascii_lowercase();
    let factor = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => return Err(FORM.to_owned()),
    };
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    size.filter(|size| *size <= MAX)
        .ok_or_else(|| "the size is too large".to_owned())
}

/// As [`parse`], but not 0.
pub(crate) fn parse_positive(text: &str) -> Result<u64, String> {
    match parse(text)? {
        0 => Err("the size is 0".to_owned()),
        size => Ok(size),
    }
}

/// As [`parse`], at least 8 KiB: no stream has a smaller window.
pub(crate) fn parse_window(text: &str) -> Result<u64, String> {
    match parse(text)? {
        size if size < natstream::proto::MIN_WINDOW => Err("a window has at least 8KiB".to_owned()),
        size => Ok(size),
    }
}

/// `number`, or the largest there is.
pub(crate) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `bytes` for people: `812 B`, `24.4 MiB`.
pub(crate) fn display(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return match unit {
                "B" => format!("{value:.0} B"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("1MiB", 1 << 20),
            ("2GiB", 2 << 30),
            ("64KB", 64_000),
            ("12b", 12),
        ] {
            assert_eq!(parse(text), Ok(size), "{text}");
        }
        for text in [
            "",
            "KiB",
            "-1",
            "1.5MiB",
            "64K",
            "1 parsec",
            "１",
            "99999999999999999999",
            "9999999999GiB",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_positive("0").is_err());
        assert!(parse_window("8191").is_err());
        assert_eq!(parse_window("8KiB"), Ok(8192));
    }

    #[test]
    fn sizes_are_shown() {
        for (bytes, text) in [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1536.0, "1.5 KiB"),
            (25_600_000.0, "24.4 MiB"),
            (5e15, "4547.5 TiB"),
        ] {
            assert_eq!(display(bytes), text);
        }
    }
}
