//! An event as a record of the spool.
//!
//! ```text
//! version 1 │ subject    │ headers                        │ payload
//! u8        │ u32, bytes │ u32 × (u32, bytes, u32, bytes) │ the rest
//! ```
//!
//! Little-endian. Its id is among the headers: an event that is read back must have the id that it may have been sent with.

use async_nats::subject::Subject;
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::{BufMut as _, Bytes};

use crate::event::Event;

const VERSION: u8 = 1;

pub(super) fn encode(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + event.size());
    out.put_u8(VERSION);
    put(&mut out, event.subject().as_bytes());
    let headers = event.headers();
    let count: usize = headers.map_or(0, |headers| headers.iter().map(|(_, values)| values.len()).sum());
    out.put_u32_le(count as u32);
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        for value in values {
            put(&mut out, name.as_bytes());
            put(&mut out, value.as_str().as_bytes());
        }
    }
    out.put_slice(event.payload());
    out
}

/// Lengths fit: an event is smaller than what nats-server takes, and that than 4 GiB.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

/// `None` when it is no record, or one of a later version.
pub(super) fn decode(record: &[u8]) -> Option<Event> {
    let mut rest = record;
    if *take(&mut rest, 1)?.first()? != VERSION {
        return None;
    }
    let subject = text(&mut rest)?.to_owned();
    let count = number(&mut rest)?;
    let mut headers = HeaderMap::new();
    for _ in 0..count {
        let name: HeaderName = text(&mut rest)?.parse().ok()?;
        let value: HeaderValue = text(&mut rest)?.parse().ok()?;
        headers.append(name, value);
    }
    let payload = Bytes::copy_from_slice(rest);
    Some(Event::spooled(Subject::from(subject), payload, headers))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*take(rest, 4)?.first_chunk()?))
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::try_from(number(rest)?).ok()?;
    std::str::from_utf8(take(rest, len)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers_of(event: &Event) -> Vec<(String, Vec<String>)> {
        let headers = event.headers().into_iter().flat_map(HeaderMap::iter);
        let mut headers: Vec<(String, Vec<String>)> = headers
            .map(|(name, values)| {
                (
                    name.to_string(),
                    values.iter().map(|value| value.as_str().to_owned()).collect(),
                )
            })
            .collect();
        headers.sort();
        headers
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            subject in "[a-z]{1,9}(\\.[a-z]{1,9}){0,3}",
            payload in prop::collection::vec(any::<u8>(), 0..300),
            headers in prop::collection::vec(("[A-Za-z-]{1,9}", "[ -~]{0,20}"), 0..4),
            id in prop::option::of("[a-z0-9]{1,20}"),
        ) {
            let mut event = Event::new(subject, payload);
            for (name, value) in &headers {
                event = event.header(name, value);
            }
            if let Some(id) = &id {
                event = event.message_id(id);
            }
            prop_assume!(event.flaw().is_none());
            let read = decode(&encode(&event)).expect("a record");
            prop_assert_eq!(read.subject(), event.subject());
            prop_assert_eq!(read.payload(), event.payload());
            prop_assert_eq!(headers_of(&read), headers_of(&event));
            prop_assert_eq!(read.has_message_id(), id.is_some());
        }

        #[test]
        fn what_is_no_record_is_none(mut bytes in prop::collection::vec(any::<u8>(), 0..100), is_version: bool) {
            if let (true, Some(first)) = (is_version, bytes.first_mut()) {
                *first = VERSION;
            }
            let _ = decode(&bytes);
        }

        #[test]
        fn a_record_that_is_cut_in_its_head_is_none(cut in 0..30_usize) {
            let event = Event::new("orders.new", "").header("Tenant", "north");
            let record = encode(&event);
            prop_assume!(cut < record.len());
            prop_assert!(decode(&record[..cut]).is_none());
        }
    }
}
