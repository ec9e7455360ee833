//! The `Natstream` header (rule 16): how a call offers and a responder answers.

use alloc::string::String;
use core::fmt::Write as _;
use core::time::Duration;

use crate::varint;

/// Name of the header.
pub const HEADER: &str = "Natstream";

/// The protocol version that this crate speaks.
pub const VERSION: u32 = 1;

/// Longest value of the header, in bytes.
pub const MAX_HEADER: usize = 256;

/// Shortest and longest heartbeat interval.
pub const HEARTBEAT_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Heartbeat interval when neither side says otherwise.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(5);

/// A header that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Natstream header cannot be read")]
#[non_exhaustive]
pub struct HeaderError;

/// What a caller says when it opens a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// `w`: the initial limit, at least 1.
    pub limit: u64,
    /// `m`: the largest item that the caller takes.
    pub max_item: Option<u64>,
    /// `h`: the heartbeat interval it would like.
    pub heartbeat: Option<Duration>,
    /// `d`: what is left of the total time.
    pub deadline: Option<Duration>,
    /// `c=0` makes it false: the caller may not publish to control subjects (rule 66).
    pub control: bool,
    /// `p=1`: a test. The responder itself answers, without running a handler (rule 18).
    pub probe: bool,
}

impl Default for Open {
    /// Nothing is asked for, and one unit may be sent.
    fn default() -> Self {
        Self {
            limit: 1,
            max_item: None,
            heartbeat: None,
            deadline: None,
            control: true,
            probe: false,
        }
    }
}

/// What a responder says with its first messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `r`: how much it keeps for sending again.
    pub retention: u64,
    /// `h`: the heartbeat interval of this stream.
    pub heartbeat: Duration,
    /// `c=0` makes it false: this stream has no control subject, and keeps nothing for sending again (rule 66).
    pub control: bool,
}

/// An Open that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offer {
    /// This crate's version is among those offered.
    Supported(Open),
    /// It is not: refuse with `UNIMPLEMENTED` (rule 19).
    Unsupported,
}

impl Open {
    /// The value of the header.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(64);
        let _ = write!(out, "{VERSION};w={}", self.limit.min(varint::MAX));
        if let Some(max_item) = self.max_item {
            let _ = write!(out, ";m={}", max_item.min(varint::MAX));
        }
        if let Some(heartbeat) = self.heartbeat {
            let _ = write!(out, ";h={}", millis(heartbeat));
        }
        if let Some(deadline) = self.deadline {
            // Rounded up: the responder's clock must not run out before the caller's.
            let _ = write!(
                out,
                ";d={}",
                millis(deadline.saturating_add(Duration::from_nanos(999_999)))
            );
        }
        out.push_str(if self.control { "" } else { ";c=0" });
        out.push_str(if self.probe { ";p=1" } else { "" });
        out
    }

    /// Reads the value of the header.
    ///
    /// # Errors
    /// [`HeaderError`] when it is longer than [`MAX_HEADER`], a number is not decimal, or `w` is missing or 0.
    pub fn parse(value: &str) -> Result<Offer, HeaderError> {
        let mut fields = fields(value)?;
        let versions = fields.next().ok_or(HeaderError)?;
        let mut supported = false;
        for version in versions.split(',') {
            supported |= is_ours(version)?;
        }
        if !supported {
            return Ok(Offer::Unsupported);
        }
        let mut open = Self {
            limit: 0,
            ..Self::default()
        };
        for field in fields {
            let (key, value) = pair(field)?;
            match key {
                "w" => open.limit = number(value)?,
                "m" => open.max_item = Some(number(value)?),
                "h" => open.heartbeat = Some(Duration::from_millis(number(value)?)),
                "d" => open.deadline = Some(Duration::from_millis(number(value)?)),
                "c" => open.control = number(value)? != 0,
                "p" => open.probe = number(value)? != 0,
                _ => {}
            }
        }
        if open.limit == 0 {
            return Err(HeaderError);
        }
        Ok(Offer::Supported(open))
    }
}

impl Answer {
    /// The value of the header.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(32);
        let _ = write!(out, "{VERSION}");
        if self.control {
            let _ = write!(out, ";r={}", self.retention.min(varint::MAX));
        }
        let _ = write!(out, ";h={}", millis(self.heartbeat));
        out.push_str(if self.control { "" } else { ";c=0" });
        out
    }

    /// Reads the value of the header.
    ///
    /// # Errors
    /// [`HeaderError`] when it is too long, of another version, or a number is not decimal.
    pub fn parse(value: &str) -> Result<Self, HeaderError> {
        let mut fields = fields(value)?;
        if !is_ours(fields.next().ok_or(HeaderError)?)? {
            return Err(HeaderError);
        }
        let mut answer = Self {
            retention: u64::MAX,
            heartbeat: DEFAULT_HEARTBEAT,
            control: true,
        };
        for field in fields {
            let (key, value) = pair(field)?;
            match key {
                "r" => answer.retention = number(value)?,
                "h" => answer.heartbeat = clamp_heartbeat(Duration::from_millis(number(value)?)),
                "c" => answer.control = number(value)? != 0,
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// `heartbeat` within [`HEARTBEAT_RANGE`].
#[must_use]
pub fn clamp_heartbeat(heartbeat: Duration) -> Duration {
    heartbeat.clamp(HEARTBEAT_RANGE.0, HEARTBEAT_RANGE.1)
}

fn fields(value: &str) -> Result<core::str::Split<'_, char>, HeaderError> {
    if value.len() > MAX_HEADER {
        return Err(HeaderError);
    }
    Ok(value.split(';'))
}

/// A field, of which unknown ones must be well formed too.
fn pair(field: &str) -> Result<(&str, &str), HeaderError> {
    let (key, value) = field.split_once('=').ok_or(HeaderError)?;
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if key.is_empty() || !key.bytes().all(is_key) || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(HeaderError);
    }
    Ok((key, value))
}

/// Is this the number of our version? One that exceeds 64 bits is a version too, which nobody speaks.
fn is_ours(version: &str) -> Result<bool, HeaderError> {
    Ok(digits(version)?.parse() == Ok(VERSION))
}

fn number(text: &str) -> Result<u64, HeaderError> {
    digits(text)?.parse().map_err(|_| HeaderError)
}

/// Decimal digits only: `str::parse` alone would take a `+`.
fn digits(text: &str) -> Result<&str, HeaderError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HeaderError);
    }
    Ok(text)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).map_or(varint::MAX, |millis| millis.min(varint::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_round_trips() {
        let open = Open {
            limit: 65_536,
            max_item: Some(16 << 20),
            heartbeat: Some(Duration::from_secs(5)),
            deadline: Some(Duration::from_millis(1500)),
            ..Open::default()
        };
        assert_eq!(open.encode(), "1;w=65536;m=16777216;h=5000;d=1500");
        assert_eq!(Open::parse(&open.encode()), Ok(Offer::Supported(open)));
        let uncontrolled = Open {
            control: false,
            probe: true,
            ..open
        };
        assert_eq!(uncontrolled.encode(), "1;w=65536;m=16777216;h=5000;d=1500;c=0;p=1");
        assert_eq!(Open::parse(&uncontrolled.encode()), Ok(Offer::Supported(uncontrolled)));
    }

    #[test]
    fn versions_are_a_list_and_unknown_keys_are_ignored() {
        assert!(matches!(
            Open::parse("2,1;w=1;future=3"),
            Ok(Offer::Supported(Open { limit: 1, .. }))
        ));
        assert_eq!(Open::parse("2,3;anything at all"), Ok(Offer::Unsupported));
    }

    #[test]
    fn a_version_may_have_any_number_of_digits() {
        let large = "99999999999999999999999";
        assert_eq!(Open::parse(large), Ok(Offer::Unsupported));
        assert!(matches!(
            Open::parse(&alloc::format!("{large},0000000000000000000000001;w=1")),
            Ok(Offer::Supported(_))
        ));
        assert_eq!(Answer::parse(large), Err(HeaderError));
        assert!(Answer::parse("01;r=1").is_ok());
        for garbage in ["9x", "1,", ",1;w=1", "+1;w=1"] {
            assert_eq!(Open::parse(garbage), Err(HeaderError), "{garbage}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        for value in [
            "",
            "x",
            "1",
            "1;w=0",
            "1;w=-1",
            "1;w=+1",
            "1;w",
            "1;w=1;m=99999999999999999999",
        ] {
            assert_eq!(Open::parse(value), Err(HeaderError), "{value}");
        }
        let long = alloc::format!("1;w=1;x={}", "9".repeat(MAX_HEADER));
        assert_eq!(Open::parse(&long), Err(HeaderError));
    }

    #[test]
    fn an_answer_round_trips_with_its_heartbeat_clamped() {
        let answer = Answer {
            retention: 1 << 20,
            heartbeat: Duration::from_secs(5),
            control: true,
        };
        assert_eq!(Answer::parse(&answer.encode()), Ok(answer));
        let uncontrolled = Answer {
            control: false,
            retention: u64::MAX,
            ..answer
        };
        assert_eq!(uncontrolled.encode(), "1;h=5000;c=0");
        assert_eq!(Answer::parse(&uncontrolled.encode()), Ok(uncontrolled));
        let fast = Answer::parse("1;r=1;h=1").expect("valid");
        assert_eq!(fast.heartbeat, HEARTBEAT_RANGE.0);
        assert_eq!(Answer::parse("2;r=1"), Err(HeaderError));
    }
}
