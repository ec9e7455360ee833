//! What a sink is given.

use std::time::SystemTime;

/// One record: its payload, and what is known about it.
///
/// Formats write what they have a place for: [`Lines`](crate::Format::lines) only the payload,
/// [`JsonLines`](crate::Format::json_lines) all of it.
///
/// ```
/// use stream_sinks::Record;
///
/// let record = Record::new(b"42 C").subject("sensors.boiler").sequence(7);
/// assert_eq!(record.payload(), b"42 C");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    payload: &'a [u8],
    subject: Option<&'a str>,
    sequence: Option<u64>,
    time: Option<SystemTime>,
    headers: &'a [(&'a str, &'a str)],
}

impl<'a> Record<'a> {
    /// A record of which nothing but the payload is known.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self {
            payload,
            subject: None,
            sequence: None,
            time: None,
            headers: &[],
        }
    }

    /// Where it came from.
    #[must_use]
    pub fn subject(mut self, subject: &'a str) -> Self {
        self.subject = Some(subject);
        self
    }

    /// Its number at its source, which must grow from record to record.
    ///
    /// The first and last one of a file are in its [`Manifest`](crate::Manifest), and may be in its name. A sink whose
    /// records have sequences cuts a torn file back to its last commit, so that
    /// [`Recovery::last_sequence`](crate::Recovery::last_sequence) says exactly where to go on.
    #[must_use]
    pub fn sequence(mut self, sequence: u64) -> Self {
        self.sequence = Some(sequence);
        self
    }

    /// When it was made. Without it, formats that write a time take that of `append`.
    ///
    /// It decides about the file only under [`FileBy::RecordTime`](crate::FileBy::RecordTime).
    #[must_use]
    pub fn time(mut self, time: SystemTime) -> Self {
        self.time = Some(time);
        self
    }

    /// Its headers, in order; a name may come more than once.
    #[must_use]
    pub fn headers(mut self, headers: &'a [(&'a str, &'a str)]) -> Self {
        self.headers = headers;
        self
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// See [`subject`](Self::subject).
    #[must_use]
    pub fn subject_of(&self) -> Option<&'a str> {
        self.subject
    }

    /// See [`sequence`](Self::sequence).
    #[must_use]
    pub fn sequence_of(&self) -> Option<u64> {
        self.sequence
    }

    /// See [`time`](Self::time). Formatters that [need a time](crate::Formatter::needs_time) always find one.
    #[must_use]
    pub fn time_of(&self) -> Option<SystemTime> {
        self.time
    }

    /// See [`headers`](Self::headers).
    #[must_use]
    pub fn headers_of(&self) -> &'a [(&'a str, &'a str)] {
        self.headers
    }
}

impl<'a> From<&'a [u8]> for Record<'a> {
    fn from(payload: &'a [u8]) -> Self {
        Self::new(payload)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Record<'a> {
    fn from(payload: &'a [u8; N]) -> Self {
        Self::new(payload)
    }
}

impl<'a> From<&'a str> for Record<'a> {
    fn from(payload: &'a str) -> Self {
        Self::new(payload.as_bytes())
    }
}

impl<'a> From<&'a Vec<u8>> for Record<'a> {
    fn from(payload: &'a Vec<u8>) -> Self {
        Self::new(payload)
    }
}

impl<'a> From<&'a String> for Record<'a> {
    fn from(payload: &'a String) -> Self {
        Self::new(payload.as_bytes())
    }
}
