//! Lengths of time, as people write them.

use std::time::Duration;

use natstream::connect::settings::parse_duration;

/// Longest time that is taken, ten years: more cannot be waited for in earnest, and would overflow clocks.
const MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Reads `500ms`, `5s`, `1.5s`, `1m30s`, `2h` (Go's form) and `1day` (humantime's).
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    match duration <= MAX {
        true => Ok(duration),
        false => Err("the time is too long".to_owned()),
    }
}

/// As [`parse`], but not 0.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("the time is 0".to_owned()),
        duration => Ok(duration),
    }
}

/// As [`parse`], between 1 s and 60 s: the heartbeats that the protocol has.
pub(crate) fn parse_heartbeat(text: &str) -> Result<Duration, String> {
    let duration = parse(text)?;
    match (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&duration) {
        true => Ok(duration),
        false => Err("a heartbeat is between 1s and 60s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("1.5s", 1_500),
            ("1m30s", 90_000),
            ("1h2m3.5s", 3_723_500),
            ("2 h", 7_200_000),
            ("1day", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "s",
            "5",
            "-5s",
            ".",
            "1..5s",
            "five",
            "100000h",
            "99999999999999999999h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_positive("0s").is_err());
        assert!(parse_heartbeat("500ms").is_err());
        assert!(parse_heartbeat("61s").is_err());
        assert_eq!(parse_heartbeat("60s"), Ok(Duration::from_secs(60)));
    }
}
