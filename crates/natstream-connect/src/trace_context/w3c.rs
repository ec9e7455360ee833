//! The two headers of W3C Trace Context.
//!
//! The SDK's propagator does the same. It stands in a crate that only exporters need, and the global one that it would be asked
//! for is none until somebody sets it.

use std::str::FromStr;

use async_nats::{HeaderMap, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Longest `tracestate` that is taken: the specification asks for 512 characters at least.
const MAX_STATE: usize = 4096;

pub(super) fn read(headers: &HeaderMap) -> Option<SpanContext> {
    let (trace, span, flags) = parse(headers.get(PARENT)?.as_str())?;
    let states: Vec<&str> = headers.get_all(STATE).map(HeaderValue::as_str).collect();
    let state = Some(states.join(",")).filter(|state| state.len() <= MAX_STATE);
    // A state that cannot be read takes nothing away from the parent.
    let state = state.and_then(|state| TraceState::from_str(&state).ok());
    let context = SpanContext::new(trace, span, flags, true, state.unwrap_or_default());
    context.is_valid().then_some(context)
}

pub(super) fn write(context: &SpanContext, headers: &mut HeaderMap) {
    if headers.get(PARENT).is_some() {
        return;
    }
    let (trace, span) = (context.trace_id(), context.span_id());
    let flags = (context.trace_flags() & TraceFlags::SAMPLED).to_u8();
    headers.insert(PARENT, format!("00-{trace}-{span}-{flags:02x}"));
    let state = context.trace_state().header();
    // Somebody else's may hold what a NATS header cannot.
    let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if !state.is_empty() && state.bytes().all(is_plain) {
        headers.insert(STATE, state);
    }
}

/// `version-trace-parent-flags`, each in lower case hexadecimal. Later versions may add something behind.
fn parse(value: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = value.trim().split('-');
    let mut part = |len: usize| {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let part = parts.next()?;
        (part.len() == len && part.bytes().all(is_digit)).then_some(part)
    };
    let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    Some((
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        flags & TraceFlags::SAMPLED,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(parent: &str, states: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(PARENT, parent);
        for state in states {
            headers.append(STATE, *state);
        }
        headers
    }

    #[test]
    fn what_is_written_is_read() {
        let context = read(&headers(VALUE, &["a=1", "b=2"])).expect("a context");
        assert!(context.is_remote() && context.is_sampled());
        let mut again = HeaderMap::new();
        write(&context, &mut again);
        assert_eq!(again.get(PARENT).map(HeaderValue::as_str), Some(VALUE));
        assert_eq!(again.get(STATE).map(HeaderValue::as_str), Some("a=1,b=2"));
    }

    #[test]
    fn a_parent_that_a_user_has_set_stays() {
        let context = read(&headers(VALUE, &[])).expect("a context");
        let mut own = headers("mine", &[]);
        write(&context, &mut own);
        assert_eq!(own.get(PARENT).map(HeaderValue::as_str), Some("mine"));
    }

    #[test]
    fn values_are_read_strictly_and_later_versions_leniently() {
        let later = VALUE.replacen("00", "cc", 1) + "-more";
        assert!(parse(&later).is_some());
        for wrong in [
            "",
            "00",
            &VALUE[..54],
            &format!("{VALUE}-more"),
            &VALUE.replacen("00", "ff", 1),
            &VALUE.to_uppercase(),
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319ü-b7ad6b7169203331-01",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
        for nobody in [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert!(read(&headers(nobody, &[])).is_none(), "{nobody}");
        }
    }

    #[test]
    fn a_state_that_cannot_be_read_is_left_out() {
        for state in ["no pair", &"a=1,".repeat(MAX_STATE)] {
            let context = read(&headers(VALUE, &[state])).expect("a context");
            assert_eq!(context.trace_state().header(), "");
        }
    }
}
