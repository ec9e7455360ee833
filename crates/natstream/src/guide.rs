//! How to use natstream, one topic a page.
//!
//! In this order, or where you are:
//!
//! - [Quick start](quick_start): a service, a caller, and a nats-server that dies meanwhile.
//! - [Streaming calls](streaming_calls): the caller's side.
//! - [Handlers](handlers): the side that answers.
//! - [Errors and verdicts](errors_and_verdicts): what can go wrong, and what to do about it.
//! - [Back-pressure](back_pressure): who waits for whom, and where the bounds are.
//! - [Timeouts and retries](timeouts_and_retries): clocks, deadlines, and what is asked again.
//! - [Files](sinks): records that survive kills and full disks.
//! - [Coming from Go](coming_from_go): for users of the Go packages whose place natstream takes.
//! - [Operating](operating): permissions, accounts, TLS, what to watch, how to stop, and units for systemd.
//!
//! # Documents of the repository
//! The pages refer to others, which lie in `docs` of the repository: `bus.md`, `buckets.md`, `configuration.md`, `discovery.md`,
//! `doctor.md`, `guarantees.md`, `observability.md`, `performance.md`, `protocol.md`, `recording.md` and `reliability.md`.

// The definitions of `links.md` come first, so they win over those of the pages, which lead to files. In doc tests they would
// only have failures named after that file.

#[cfg_attr(not(doctest), doc = include_str!("guide/links.md"))]
#[doc = include_str!("../docs/guide/quick-start.md")]
pub mod quick_start {}

#[cfg_attr(not(doctest), doc = include_str!("guide/links.md"))]
#[doc = include_str!("../docs/guide/streaming-calls.md")]
pub mod streaming_calls {}

#[cfg_attr(not(doctest), doc = include_str!("guide/links.md"))]
#[doc = include_str!("../docs/guide/handlers.md")]
pub mod handlers {}

#[cfg_attr(not(doctest), doc = include_str!("guide/links.md"))]
#[doc = include_str!("../docs/guide/errors-and-verdicts.md")]
pub mod errors_and_verdicts {}

#[cfg_attr(not(doctest), doc = include_str!("guide/links.md"))]
#[doc = include_str!("../docs/guide/back-pressure.md")]
pub mod back_pressure {}

#[cfg_attr(not(doctest), doc = include_str!("guide/links.md"))]
#[doc = include_str!("../docs/guide/timeouts-and-retries.md")]
pub mod timeouts_and_retries {}

#[cfg_attr(not(doctest), doc = include_str!("guide/links.md"))]
#[doc = include_str!("../docs/guide/sinks.md")]
pub mod sinks {}

#[cfg_attr(not(doctest), doc = include_str!("guide/links.md"))]
#[doc = include_str!("../docs/guide/coming-from-go.md")]
pub mod coming_from_go {}

#[cfg_attr(not(doctest), doc = include_str!("guide/links.md"))]
#[doc = include_str!("../docs/guide/operating.md")]
pub mod operating {}

/// Pages that are read elsewhere, and whose examples are compiled all the same.
#[cfg(doctest)]
mod elsewhere {
    #[doc = include_str!("../README.md")]
    mod readme {}

    #[cfg(all(feature = "kv", feature = "object"))]
    #[doc = include_str!("../docs/buckets.md")]
    mod buckets {}

    #[doc = include_str!("../docs/observability.md")]
    mod observability {}
}
