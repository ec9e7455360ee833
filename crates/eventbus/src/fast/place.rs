//! The reply subject of a message in a batch, which says all that nats-server wants to know of it:
//! `<inbox>.<route>.<batch>.<flow>.<gap mode>.<sequence>.<operation>.$FI`.

/// A message of a batch, as its reply subject names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The batches of a bus are numbered from 1 on.
    pub(crate) batch: u64,
    /// Its messages too; the end has the next one.
    pub(crate) sequence: u64,
    pub(crate) operation: Operation,
}

/// What a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// Begins a batch, with its first event.
    Start,
    /// One more event.
    Append,
    /// Ends the batch, without an event.
    End,
    /// Is a batch of one event, which is answered for what it is. It is used for events that can never be stored.
    Ask,
}

impl Operation {
    /// nats-server's number of it. 4 would ask for the flow.
    pub(crate) fn digit(self) -> u8 {
        match self {
            Self::Start => b'0',
            Self::Append => b'1',
            Self::Ask => b'2',
            Self::End => b'3',
        }
    }
}

impl Place {
    /// Reads what is behind the route; `ids` is what the ids of all batches of this bus begin with.
    pub(crate) fn read(rest: &str, ids: &str) -> Option<Self> {
        let mut parts = rest.strip_suffix(".$FI")?.split('.');
        let batch = u64::from_str_radix(parts.next()?.strip_prefix(ids)?, 16).ok()?;
        let (_flow, _gap) = (parts.next()?, parts.next()?);
        let sequence = parts.next()?.parse().ok()?;
        let operation = match parts.next()? {
            "0" => Operation::Start,
            "1" => Operation::Append,
            "2" => Operation::Ask,
            "3" => Operation::End,
            _ => return None,
        };
        parts.next().is_none().then_some(Self {
            batch,
            sequence,
            operation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_place_is_none() {
        let place = |sequence, operation| Place {
            batch: 31,
            sequence,
            operation,
        };
        for (rest, expected) in [
            ("ab1f.500.fail.1.0.$FI", Some(place(1, Operation::Start))),
            ("ab1f.500.fail.7.1.$FI", Some(place(7, Operation::Append))),
            ("ab1f.500.fail.8.3.$FI", Some(place(8, Operation::End))),
            ("ab1f.500.fail.1.2.$FI", Some(place(1, Operation::Ask))),
            ("ab1f.500.fail.8.3", None),
            ("ab1f.500.fail.8.4.$FI", None),
            ("ac1f.500.fail.8.3.$FI", None),
            ("ab1f.500.fail.8.3.4.$FI", None),
            ("ab.500.fail.8.3.$FI", None),
            ("", None),
        ] {
            assert_eq!(Place::read(rest, "ab"), expected, "{rest}");
        }
    }

    proptest! {
        #[test]
        fn nothing_from_the_network_panics(rest in "[ab01fail.$FI]{0,40}") {
            let _ = Place::read(&rest, "ab");
        }
    }
}
