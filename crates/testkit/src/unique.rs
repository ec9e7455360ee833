//! Names that no other test uses, in this process or another.

use std::{
    hash::{BuildHasher, RandomState},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// A subject below `prefix` that no other test uses: `orders` gives `orders.4d2x0x9f86d081`.
///
/// Add tokens or wildcards behind it as you like.
///
/// # Panics
///
/// When `prefix` is not a plain subject: empty tokens, white space, wildcards.
#[must_use]
#[track_caller]
pub fn unique_subject(prefix: &str) -> String {
    assert!(
        prefix.split('.').all(is_name),
        "`{prefix}` is not a plain subject: no empty token, white space or wildcard"
    );
    format!("{prefix}.{}", suffix())
}

/// A name without dots that no other test uses: `ORDERS` gives `ORDERS_4d2x0x9f86d081`.
///
/// For JetStream streams, consumers, buckets and queue groups.
///
/// # Panics
///
/// When `prefix` is not a valid name: empty, or with white space or one of `.*>/\`.
#[must_use]
#[track_caller]
pub fn unique_name(prefix: &str) -> String {
    assert!(
        is_name(prefix),
        "`{prefix}` is not a valid name: no white space and none of .*>/\\"
    );
    format!("{prefix}_{}", suffix())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c))
}

/// Process and counter keep this run apart; the random part keeps it from older runs, whose
/// process ids come back and whose streams may still be on a long-lived server.
fn suffix() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    // Every `RandomState` has keys of its own; that is random enough here, without a dependency.
    let random = RandomState::new().hash_one(counter) >> 32;
    format!("{:x}x{counter:x}x{random:08x}", process::id())
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, panic::catch_unwind};

    use super::*;

    #[test]
    fn names_differ_and_are_valid() {
        let names: HashSet<String> = (0..1000).map(|_| unique_name("STREAM")).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| is_name(name)));

        let subject = unique_subject("orders.new");
        assert!(subject.starts_with("orders.new."));
        assert_eq!(subject.split('.').count(), 3);
    }

    #[test]
    fn bad_prefixes_panic() {
        for bad in ["", "a..b", "a b", "a.*", "a.>", ".a"] {
            assert!(catch_unwind(|| unique_subject(bad)).is_err(), "{bad:?}");
        }
        for bad in ["", "a.b", "a b", "*", "a/b"] {
            assert!(catch_unwind(|| unique_name(bad)).is_err(), "{bad:?}");
        }
    }
}
