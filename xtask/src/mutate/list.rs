//! The mutations: which rules of `docs/protocol.md` they break, and how.
//!
//! The texts must occur exactly once in their files, which a test of xtask checks: whoever changes such a line says here
//! how the new one is broken.

/// A broken rule.
#[derive(Debug)]
pub(super) struct Mutation {
    pub(super) name: &'static str,
    /// Its number, or numbers, in `docs/protocol.md`.
    pub(super) rules: &'static [u8],
    /// What the broken program does.
    pub(super) what: &'static str,
    pub(super) edits: &'static [Edit],
    /// Why the simulation cannot notice it.
    pub(super) uncaught: Option<&'static str>,
}

/// A text in place of another.
#[derive(Debug)]
pub(super) struct Edit {
    /// From the crate's directory: in `src`, or in `tests/sim` where the rule is the host's.
    pub(super) file: &'static str,
    pub(super) from: &'static str,
    pub(super) to: &'static str,
}

impl Mutation {
    pub(super) fn rules(&self) -> String {
        let rules: Vec<String> = self.rules.iter().map(u8::to_string).collect();
        rules.join(", ")
    }
}

const INBOUND: &str = "src/inbound/mod.rs";
const INBOUND_RECEIVE: &str = "src/inbound/receive.rs";
const INBOUND_TIMERS: &str = "src/inbound/timers.rs";
const OUTBOUND: &str = "src/outbound/mod.rs";
const OUTBOUND_RECEIVE: &str = "src/outbound/receive.rs";
const OUTBOUND_TIMERS: &str = "src/outbound/timers.rs";
const CALLER: &str = "tests/sim/caller.rs";

/// By rule.
pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "no-stream-id-responder",
        rules: &[4],
        what: "the responder takes messages for any stream",
        edits: &[
            Edit {
                file: OUTBOUND_RECEIVE,
                from: "} if sid == self.sid => {",
                to: "} => {\n                let _ = sid;",
            },
            Edit {
                file: OUTBOUND_RECEIVE,
                from: "Frame::Close { sid, code } if sid == self.sid =>",
                to: "Frame::Close { code, .. } =>",
            },
        ],
        uncaught: None,
    },
    Mutation {
        name: "no-stream-id-caller",
        rules: &[8],
        what: "the caller takes units of any stream",
        edits: &[Edit {
            file: INBOUND_RECEIVE,
            from: "Some(own) if own != sid => {",
            to: "Some(_) if false => {",
        }],
        uncaught: None,
    },
    Mutation {
        name: "no-announcement",
        rules: &[23],
        what: "nothing repeats the control subject of a stream that is not confirmed",
        edits: &[Edit {
            file: OUTBOUND_TIMERS,
            from: "self.unconfirmed = (!self.is_confirmed).then(",
            to: "self.unconfirmed = (false).then(",
        }],
        uncaught: None,
    },
    Mutation {
        name: "no-retention-bound",
        rules: &[29],
        what: "the responder sends more than it keeps",
        edits: &[Edit {
            file: OUTBOUND,
            from: "self.limit.min(self.units.acked().saturating_add(self.retention()))",
            to: "self.limit",
        }],
        uncaught: None,
    },
    Mutation {
        name: "fits-the-credit",
        rules: &[30],
        what: "a unit is sent only if all of it is below the limit",
        edits: &[Edit {
            file: OUTBOUND,
            from: "(exempt || unit.position < self.effective_limit()).then_some(unit)",
            to: "(exempt || unit.end <= self.effective_limit()).then_some(unit)",
        }],
        uncaught: None,
    },
    Mutation {
        name: "credit-by-receipt",
        rules: &[31],
        what: "the limit rises with what arrived, not with what was taken",
        edits: &[Edit {
            file: "src/inbound/credit.rs",
            from: "self.granted.max(self.consumed + self.window)",
            to: "self.granted.max(next + self.window)",
        }],
        uncaught: None,
    },
    Mutation {
        name: "confirmed-when-consumed",
        rules: &[31, 40],
        what: "the caller confirms what was taken, not what arrived",
        edits: &[Edit {
            file: INBOUND,
            from: "next: self.next,\n            limit",
            to: "next: self.next - self.credit.outstanding(self.next),\n            limit",
        }],
        uncaught: None,
    },
    Mutation {
        name: "lower-positions-taken",
        rules: &[37],
        what: "the caller takes units again",
        edits: &[Edit {
            file: INBOUND_RECEIVE,
            from: "if unit.position < self.next {",
            to: "if unit.position == 0 && self.next > 1 {",
        }],
        uncaught: None,
    },
    Mutation {
        name: "small-gaps-taken",
        rules: &[37],
        what: "the caller does not see that a few units are missing",
        edits: &[Edit {
            file: INBOUND_RECEIVE,
            from: "if unit.position > self.next {",
            to: "if unit.position > self.next + 5000 {",
        }],
        uncaught: None,
    },
    Mutation {
        name: "rewind-per-frame-caller",
        rules: &[39],
        what: "the caller asks again for each unit after a gap",
        edits: &[Edit {
            file: INBOUND_TIMERS,
            from: "if self.rewind.is_none() {",
            to: "{",
        }],
        uncaught: None,
    },
    Mutation {
        name: "rewind-per-frame",
        rules: &[39, 40],
        what: "the same, and the responder follows each time",
        edits: &[
            Edit {
                file: INBOUND_TIMERS,
                from: "if self.rewind.is_none() {",
                to: "{",
            },
            Edit {
                file: OUTBOUND_RECEIVE,
                from: "position == next && now",
                to: "position == next && false && now",
            },
        ],
        uncaught: None,
    },
    Mutation {
        name: "rewind-again-at-once",
        rules: &[40],
        what: "the responder follows the same request again at once",
        edits: &[Edit {
            file: OUTBOUND_RECEIVE,
            from: "position == next && now",
            to: "position == next && false && now",
        }],
        uncaught: None,
    },
    Mutation {
        name: "no-rewind-reconnected",
        rules: &[43],
        what: "the caller does not ask for what its outage lost",
        edits: &[Edit {
            file: INBOUND_TIMERS,
            from: "            self.rewind = None;\n            self.gap(now);\n",
            to: "            self.rewind = None;\n",
        }],
        uncaught: None,
    },
    Mutation {
        name: "no-beat-reconnected",
        rules: &[44],
        what: "the responder says nothing after its outage",
        edits: &[Edit {
            file: OUTBOUND,
            from: "        } else if self.units.sent() > 0 {\n            self.beat_first = true;",
            to: "        } else if false {",
        }],
        uncaught: None,
    },
    Mutation {
        name: "beat-after-units",
        rules: &[44],
        what: "after its outage the responder sends units before it says where it stands",
        edits: &[Edit {
            file: OUTBOUND,
            from: "            self.beat_first = true;\n            if self.mapped {",
            to: "            if self.mapped {",
        }],
        uncaught: None,
    },
    Mutation {
        name: "no-new-announcement",
        rules: &[44, 62],
        what: "across accounts the responder does not announce its subject anew after its outage",
        edits: &[Edit {
            file: OUTBOUND,
            from: "            if self.mapped {\n                self.announce_due = true;\n            } else {\n                self.beat_due = true;\n            }",
            to: "            self.beat_due = true;",
        }],
        uncaught: None,
    },
    Mutation {
        name: "no-beat-blocked",
        rules: &[46],
        what: "a sender that waits for credit does not say so",
        edits: &[Edit {
            file: OUTBOUND_TIMERS,
            from: "self.blocked = Some(Doubling::start(now, BLOCKED));",
            to: "self.blocked = Some(Doubling::start(now, Duration::from_secs(1000)));",
        }],
        uncaught: Some("the next keep-alive of either side mends what the beat would, only later"),
    },
    Mutation {
        name: "503-is-a-verdict-caller",
        rules: &[49],
        what: "the caller ends a stream at a 503",
        edits: &[Edit {
            file: INBOUND_RECEIVE,
            from: "Class::NoResponders if self.sid.is_none() => self.terminate(",
            to: "Class::NoResponders => self.terminate(",
        }],
        uncaught: None,
    },
    Mutation {
        name: "503-is-a-verdict-responder",
        rules: &[49],
        what: "the responder forgets a stream at a 503",
        edits: &[Edit {
            file: OUTBOUND_RECEIVE,
            from: "self.stats.suspicions += u64::from(self.timers.no_responders(now));",
            to: "self.give_up(CloseReason::Gone);",
        }],
        uncaught: None,
    },
    Mutation {
        name: "no-close-done",
        rules: &[53],
        what: "the caller does not say that it has everything",
        edits: &[Edit {
            file: INBOUND_RECEIVE,
            from: "self.close = Some(CloseCode::Done);",
            to: "",
        }],
        uncaught: None,
    },
    Mutation {
        name: "no-end-again",
        rules: &[54],
        what: "the end is sent once",
        edits: &[Edit {
            file: OUTBOUND_TIMERS,
            from: "self.repeat_end = (!is_single).then(|| now + REPEAT);",
            to: "self.repeat_end = None;",
        }],
        uncaught: None,
    },
    Mutation {
        name: "no-farewell",
        rules: &[60],
        what: "the responder leaves the mapping of the reply subject behind",
        edits: &[Edit {
            file: OUTBOUND_RECEIVE,
            from: "self.farewell_due = self.mapped && code != CloseCode::Unwanted;",
            to: "self.farewell_due = false;",
        }],
        uncaught: None,
    },
    Mutation {
        name: "farewell-unwanted",
        rules: &[60],
        what: "a stream that nobody wants ends the mapping of another",
        edits: &[Edit {
            file: OUTBOUND_RECEIVE,
            from: "self.farewell_due = self.mapped && code != CloseCode::Unwanted;",
            to: "self.farewell_due = self.mapped;",
        }],
        uncaught: None,
    },
    Mutation {
        name: "no-bare-empty-caller",
        rules: &[61],
        what: "the caller leaves the mappings of control subjects behind",
        edits: &[
            Edit {
                file: CALLER,
                from: "if is_mapped && self.mutation != Some(Mutation::NoBareEmpty) {",
                to: "if false {",
            },
            Edit {
                file: CALLER,
                from: "                if self.mutation != Some(Mutation::NoBareEmpty) {\n",
                to: "                if false {\n",
            },
        ],
        uncaught: None,
    },
    Mutation {
        name: "older-alias-forgotten",
        rules: &[61],
        what: "the caller keeps only the newest mapped control subject",
        edits: &[Edit {
            file: INBOUND_RECEIVE,
            from: "            ControlUse::Keep\n",
            to: "            ControlUse::Ignore\n",
        }],
        uncaught: None,
    },
    Mutation {
        name: "mapped-and-reconnected",
        rules: &[62],
        what: "a caller across accounts goes on after its outage",
        edits: &[Edit {
            file: INBOUND,
            from: "        if self.mapped {\n            self.lose",
            to: "        if false {\n            self.lose",
        }],
        uncaught: None,
    },
];
