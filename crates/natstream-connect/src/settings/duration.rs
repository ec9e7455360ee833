//! Lengths of time, as Go programs write them.

use std::time::Duration;

/// What a length of time looks like, for error messages.
const FORM: &str = "a length of time is a number with a unit: 500ms, 5s, 1.5s, 1m30s, 2h";

/// Reads `2s`, `500ms`, `1m30s`, `1.5h`, `1h15m30.918s` and `0`, the form of Go's `time.ParseDuration`; and `1day`, `2 h`.
///
/// # Errors
///
/// What is wrong, in words that do not repeat the text.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err("a length of time is not negative");
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    match go_form(text) {
        Some(duration) => Ok(duration),
        None => humantime::parse_duration(text).map_err(|_| FORM),
    }
}

/// Decimal numbers, each with a unit.
fn go_form(text: &str) -> Option<Duration> {
    let mut total: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (whole, tail) = digits(rest);
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => digits(tail),
            None => ("", tail),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit = tail.len() - tail.trim_start_matches(char::is_alphabetic).len();
        let (unit, tail) = tail.split_at(unit);
        let nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        // 20 digits and a factor of 42 bits stay within 128.
        if whole.len() > 20 {
            return None;
        }
        total += whole.parse::<u128>().unwrap_or(0) * nanos;
        let mut share = nanos;
        for digit in fraction.chars() {
            share /= 10;
            total += u128::from(digit.to_digit(10)?) * share;
        }
        rest = tail;
    }
    let seconds = u64::try_from(total / 1_000_000_000).ok()?;
    let nanos = u32::try_from(total % 1_000_000_000).ok()?;
    (!text.is_empty()).then(|| Duration::new(seconds, nanos))
}

fn digits(text: &str) -> (&str, &str) {
    let count = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    text.split_at(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_of_go_are_read() {
        for (text, nanos) in [
            ("2s", 2_000_000_000),
            ("500ms", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("2m0s", 120_000_000_000),
            ("1h15m30.918s", 4_530_918_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("100us", 100_000),
            ("1µs", 1_000),
            ("0.1ns", 0),
            ("+5s", 5_000_000_000),
            ("0", 0),
            ("0s", 0),
            (" 10s ", 10_000_000_000),
            ("1day", 86_400_000_000_000),
            ("2 h", 7_200_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in [
            "",
            "2",
            "-2s",
            "- 2s",
            "s",
            ".s",
            "1..5s",
            "1.5.5s",
            "two",
            "1x",
            "99999999999999999999999s",
            "1e3s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration("-5s").unwrap_err().contains("negative"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9.a-zµ +-]{0,40}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn what_go_prints_comes_back(hours in 0_u64..1000, minutes in 0_u64..60, seconds in 0_u64..60, millis in 0_u64..1000) {
            let text = format!("{hours}h{minutes}m{seconds}.{millis:03}s");
            let expected = Duration::from_millis(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis);
            prop_assert_eq!(parse_duration(&text), Ok(expected));
        }
    }
}
