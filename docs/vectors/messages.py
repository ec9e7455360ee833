"""The vectors of single messages, headers, subjects, items and positions."""

from wire import *

SID = 0x5EED0001


def status_fields(code=0, flags=0, retry_after=0, items=0, message="", details=b"", trailing=b""):
    return {
        "code": code,
        "not_processed": bool(flags & NOT_PROCESSED),
        "retryable": bool(flags & RETRYABLE),
        "retry_after_ms": str(retry_after),
        "items": str(items),
        "message": message,
        "details": text(details),
    }


def frames():
    out = []

    def add(name, rules, fields, content, decode_only=False):
        entry = {"name": name, "rules": rules, "fields": fields, "hex": text(content)}
        if decode_only:
            entry["decode_only"] = True
        out.append(entry)

    def add_unit(name, sid=SID, position=0, data=b"", fin=None, rules=(11,), decode_only=False, content=None, **more):
        fields = {
            "kind": "UNIT",
            "sid": sid,
            "position": str(position),
            "fin": None if fin is None else status_fields(**fin),
            "data": text(data),
        }
        block = None if fin is None else status(**fin)
        content = content or unit(sid, position, data, block, **more)
        add(name, list(rules), fields, content, decode_only)

    add_unit("unit-empty")
    add_unit("unit-one-item", data=items(b"one"), rules=[11, 12])
    add_unit("unit-two-items", position=260, data=items(b"two", b"three"), rules=[11, 12, 13])
    add_unit("unit-empty-item", data=items(b""), rules=[12])
    add_unit("unit-three-empty-items", data=items(b"", b"", b""), rules=[12])
    add_unit("unit-item-of-63", data=items(b"x" * 63), rules=[10, 12])
    add_unit("unit-item-of-64", data=items(b"x" * 64), rules=[10, 12])
    add_unit("unit-item-of-16383", data=items(b"x" * 16383), rules=[10, 12])
    add_unit("unit-item-of-16384", data=items(b"x" * 16384), rules=[10, 12])
    add_unit("unit-largest", data=items(b"x" * (65536 - 8 - 4)), rules=[14])
    add_unit("unit-beginning-of-a-long-item", position=300, data=varint(1000) + b"y" * 100, rules=[12])
    add_unit("unit-rest-of-a-long-item", position=658, data=b"y" * 900, rules=[12])
    add_unit("unit-sid-zero", sid=0)
    add_unit("unit-sid-all-ones", sid=0xFFFFFFFF)
    for position in (63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30, MAX_VARINT):
        add_unit(f"unit-position-{position}", position=position, data=items(b"a"), rules=[10, 11])
    add_unit("unit-data-not-items", data=bytes([0xFE, 0xFF, 0x00]), rules=[11])
    add_unit("unit-unknown-flags", data=items(b"one"), flags=0xFE, rules=[17], decode_only=True)

    ok = {}
    add_unit("fin-success", position=526, fin={"items": 3}, rules=[11, 15, 51])
    add_unit("fin-in-unit-0-without-items", fin=ok, rules=[15, 51])
    add_unit("fin-with-data", position=0, data=items(b"one", b"two"), fin={"items": 2}, rules=[11, 51])
    add_unit("fin-with-empty-item", position=0, data=items(b""), fin={"items": 1}, rules=[12, 51])
    add_unit("fin-trailers", position=260, fin={"items": 1, "details": b"k: v"}, rules=[15])
    failures = {
        "fin-failure": {"code": 5, "items": 1, "message": "no such file"},
        "fin-not-processed": {"code": 14, "flags": NOT_PROCESSED},
        "fin-retryable": {"code": 14, "flags": RETRYABLE, "items": 7, "message": "draining"},
        "fin-all-flags-and-retry-after": {
            "code": 8,
            "flags": NOT_PROCESSED | RETRYABLE,
            "retry_after": 1500,
            "message": "busy",
        },
        "fin-not-ascii": {"code": 14, "message": "比特流中断 é 🦀", "details": bytes([0, 0xFF, 0xFE])},
        "fin-message-of-63": {"code": 13, "message": "m" * 63},
        "fin-message-of-64": {"code": 13, "message": "m" * 64},
        "fin-longest-message": {"code": 13, "message": "m" * 1024},
        "fin-longest-details": {"code": 13, "details": b"d" * 4096},
        "fin-longest-of-everything": {
            "code": 16,
            "flags": 3,
            "retry_after": MAX_VARINT,
            "items": MAX_VARINT,
            "message": "m" * 1024,
            "details": b"d" * 4096,
        },
        "fin-unknown-code": {"code": 200, "message": "from the future"},
        "fin-retry-after-1": {"code": 14, "retry_after": 1},
    }
    for name, fin in failures.items():
        position = 0 if fin.get("flags", 0) & NOT_PROCESSED else 260
        add_unit(name, position=position, fin=fin, rules=[15])
    for number, name in enumerate(CODES):
        add_unit("fin-code-" + name.lower().replace("_", "-"), position=256, fin={"code": number}, rules=[15])
    add_unit("fin-failure-inside-an-item", position=300, data=varint(50) + b"cut", fin={"code": 14, "flags": 2}, rules=[52, 58])
    for name, fin, rules in (
        ("fin-unknown-status-flags", {"code": 14, "flags": 0xFE, "items": 1}, [15, 17]),
        ("fin-status-with-more-after-it", {"code": 14, "items": 1, "message": "m", "trailing": b"later"}, [15, 17]),
    ):
        add_unit(name, position=260, data=items(b"z"), fin=fin, rules=rules, decode_only=True)
    invalid = {"code": 13, "message": "bad \ufffd end"}
    add_unit(
        "fin-message-not-utf-8",
        position=260,
        fin=invalid,
        rules=[15],
        decode_only=True,
        content=unit(SID, 260, fin=status(code=13, message=b"bad \xff end")),
    )

    def add_beat(name, announce, position, sid=SID, rules=(11,), tail=b""):
        fields = {"kind": "BEAT", "sid": sid, "announce": str(announce), "position": str(position)}
        add(name, list(rules), fields, beat(sid, announce, position) + tail, bool(tail))

    add_beat("beat", 0, 256, rules=[11, 46])
    add_beat("beat-announces-again", 2, 70000, rules=[11, 23])
    for value in (0, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30, MAX_VARINT):
        add_beat(f"beat-varints-{value}", value, value, rules=[10])
    add_beat("beat-with-more-after-it", 1, 256, rules=[11, 17], tail=b"later")

    for name, sid in (("reset", SID), ("reset-sid-zero", 0), ("reset-sid-all-ones", 0xFFFFFFFF)):
        add(name, [11, 50], {"kind": "RESET", "sid": sid}, reset(sid))
    add("reset-with-more-after-it", [11, 17], {"kind": "RESET", "sid": SID}, reset(SID) + b"later", True)

    def add_state(name, next, limit, rewind=False, sid=SID, rules=(11,), tail=b"", flags=0):
        fields = {"kind": "STATE", "sid": sid, "rewind": rewind, "next": str(next), "limit": str(limit)}
        content = state(sid, next, limit, rewind, flags) + tail
        add(name, list(rules), fields, content, bool(tail or flags))

    add_state("state", 260, 65796, rules=[11, 32])
    add_state("state-rewind", 260, 65796, rewind=True, rules=[11, 39])
    for value in (0, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30, MAX_VARINT):
        add_state(f"state-varints-{value}", value, value, rules=[10])
    add_state("state-unknown-flags", 1, 2, flags=0xFE, rules=[17])
    add_state("state-unknown-flags-and-rewind", 1, 2, rewind=True, flags=0x80, rules=[17])
    add_state("state-with-more-after-it", 260, 65796, rules=[11, 17], tail=b"later")

    for code in (DONE, CANCELLED, UNWANTED, DEADLINE, PROTOCOL, 5, 255):
        known = ("DONE", "CANCELLED", "UNWANTED", "DEADLINE", "PROTOCOL")
        name = known[code].lower() if code < len(known) else f"unknown-{code}"
        add(f"close-{name}", [11, 17], {"kind": "CLOSE", "sid": SID, "code": code}, close(SID, code))
    add(
        "close-with-more-after-it",
        [11, 17],
        {"kind": "CLOSE", "sid": SID, "code": 1},
        close(SID, CANCELLED) + b"later",
        True,
    )

    for kind in (0x00, 0x04, 0x10, 0x13, 0x21, 0xFF):
        add(f"unknown-kind-{kind:02x}", [17], {"kind": kind, "sid": SID}, head(kind, SID))
    add("unknown-kind-with-a-body", [17], {"kind": 0x2A, "sid": SID}, head(0x2A, SID) + b"anything", True)
    return out


def malformed():
    """The offset is how far a reader has come that reads field by field."""
    out = []

    def add(name, error, offset, content, rules=(17,)):
        out.append({"name": name, "rules": list(rules), "error": error, "offset": offset, "hex": text(content)})

    add("empty", "Truncated", 0, b"")
    add("not-native-text", "NotNative", 0, b"hello")
    add("not-native-ff", "NotNative", 0, bytes([0xFF]) + beat(SID, 0, 0)[1:])
    whole = {
        "unit": unit(SID, 300),
        "beat": beat(SID, 64, 16384),
        "reset": reset(SID),
        "state": state(SID, 1 << 30, 64),
        "close": close(SID, DONE),
        "unknown-kind": head(0x2A, SID),
    }
    # Where the fields of each begin; a message that is cut inside a field is read up to its beginning.
    fields = {
        "unit": [0, 1, 2, 6, 7, 9],
        "beat": [0, 1, 2, 6, 8, 12],
        "reset": [0, 1, 2, 6],
        "state": [0, 1, 2, 6, 7, 15, 17],
        "close": [0, 1, 2, 6, 7],
        "unknown-kind": [0, 1, 2, 6],
    }
    for name, content in whole.items():
        assert fields[name][-1] == len(content), name
        for cut in range(1, len(content)):
            offset = max(at for at in fields[name] if at <= cut)
            add(f"{name}-cut-at-{cut}", "Truncated", offset, content[:cut], [11, 17])

    # A status block: 7 bytes of head and flags, the position, the block's length.
    block = status(code=14, flags=1, retry_after=1000, items=20000, message="abc", details=b"de")
    inside = [0, 1, 2, 4, 8, 9, 12, 13, 15]
    assert inside[-1] == len(block)
    prefix = unit(SID, 300)[:6] + bytes([FIN]) + varint(300)
    start = len(prefix)
    add("fin-without-status", "Truncated", start, prefix, [11, 15])
    for cut in range(len(block)):
        # The block says how long it is, and is too short for what it should hold. A length that cannot be met is
        # found after it.
        add(f"status-cut-at-{cut}", "Truncated", start + 1 + max(at for at in inside if at <= cut), prefix + varint(cut) + block[:cut], [15])
    add("status-length-beyond-the-message", "Truncated", start + 1, prefix + varint(16) + block, [10, 15])
    add("status-length-huge", "Truncated", start + 8, prefix + varint(MAX_VARINT) + block, [10, 15])
    huge = block[:8] + varint(MAX_VARINT)
    add("message-length-huge", "Truncated", start + 1 + len(huge), prefix + varint(len(huge)) + huge, [10, 15])
    add("details-length-beyond-the-block", "Truncated", start + 1 + 13, prefix + varint(15) + block[:12] + varint(3) + b"de", [10, 15])
    for name, fin, at in (
        ("message-of-1025", status(code=13, message="m" * 1025), 2 + 1 + 1 + 2 + 1025),
        ("details-of-4097", status(code=13, details=b"d" * 4097), 2 + 1 + 1 + 1 + 2 + 4097),
    ):
        add(f"status-{name}", "StatusTooLong", start + 2 + at, prefix + varint(len(fin)) + fin, [15])

    # Longer forms of numbers than needed, in each field that is one.
    long_forms = ((37, 2), (63, 2), (37, 4), (63, 8), (64, 4), (16383, 4), (16383, 8), (16384, 8), ((1 << 30) - 1, 8))
    for value, size in long_forms:
        number = varint(value, size)
        add(f"position-{value}-in-{size}-bytes", "NotMinimal", 7, head(UNIT, SID) + b"\0" + number, [10])
        add(f"announce-{value}-in-{size}-bytes", "NotMinimal", 6, head(BEAT, SID) + number + varint(0), [10])
        add(f"limit-{value}-in-{size}-bytes", "NotMinimal", 8, head(STATE, SID) + b"\0" + varint(5) + number, [10])
    add("status-length-not-minimal", "NotMinimal", start, prefix + varint(len(block), 2) + block, [10, 15])
    for name, at, bad in (
        ("retry-after", 2, block[:2] + varint(10, 2) + block[4:]),
        ("items", 4, block[:4] + varint(10, 2) + block[8:]),
        ("message-length", 8, block[:8] + varint(3, 2) + block[9:]),
        ("details-length", 12, block[:12] + varint(2, 2) + block[13:]),
    ):
        add(f"status-{name}-not-minimal", "NotMinimal", start + 1 + at, prefix + varint(len(bad)) + bad, [10, 15])

    add("unit-of-65537", "UnitTooLarge", 65536, unit(SID, 0, items(b"x" * (65536 - 8 - 4 + 1))), [14])
    return out


def headers():
    def opening(value, w, m=None, h=None, d=None, c=None, p=None, canonical=False):
        fields = {"w": str(w), "m": m and str(m), "h": h and str(h), "d": d and str(d)}
        if h is not None:
            fields["heartbeat_ms"] = min(max(int(h), 1000), 60000)
        if c is not None:
            fields["c"] = c
        if p is not None:
            fields["p"] = p
        entry = {"value": value, "fields": fields}
        if canonical:
            entry["canonical"] = True
        return entry

    def answer(value, r=None, h=None, canonical=False, **more):
        heartbeat = 5000 if h is None else min(max(h, 1000), 60000)
        entry = {"value": value, "fields": {"r": r and str(r), "heartbeat_ms": heartbeat, **more}}
        if canonical:
            entry["canonical"] = True
        return entry

    fill = "1;w=1;x=" + "9" * (256 - 8)
    assert len(fill) == 256
    return {
        "open": {
            "valid": [
                opening("1;w=65536;m=16777216;h=5000", 65536, 16777216, 5000, canonical=True),
                opening("1;w=65536;m=16777216;h=5000;d=1500", 65536, 16777216, 5000, 1500, canonical=True),
                opening("1;w=1", 1, canonical=True),
                opening("1;w=8192;d=30000", 8192, d=30000, canonical=True),
                opening("1;d=30000;h=2000;m=10;w=8192", 8192, 10, 2000, 30000),
                opening("2,1;w=1", 1),
                opening("1,2,3;w=1", 1),
                opening("3,2,1;w=9;m=4611686018427387903", 9, 4611686018427387903),
                opening("1;w=4611686018427387903", 4611686018427387903, canonical=True),
                opening("1;w=1;future=3", 1),
                opening("1;w=1;future=", 1),
                opening("1;w=1;future=a=b,c", 1),
                opening("1;w=007", 7),
                opening("01;w=1", 1),
                opening("99999999999999999999999,1;w=9", 9),
                opening("1;w=1;d=0", 1, d="0"),
                opening("1;w=1;c=007;d=5", 1, d=5, c="7"),
                opening("1;w=1;h=1", 1, h=1),
                opening("1;w=1;h=3600000", 1, h=3600000),
                opening("1;w=1;w=2", 2),
                opening("1;w=65536;c=0;d=1000", 65536, d=1000, c="0"),
                opening("1;w=65536;d=1000;c=0", 65536, d=1000, c="0", canonical=True),
                opening("1;w=65536;c=1", 65536, c="1"),
                opening("1;w=65536;p=1", 65536, p="1", canonical=True),
                opening(fill, 1),
            ],
            "unsupported": [
                "2",
                "2,3",
                "2;w=1",
                "2,3;anything at all",
                "10;w=1",
                "11,12;w=0",
                "0;w=1",
                "99999999999999999999999;w=9",
            ],
            "invalid": [
                {"value": value, "why": why}
                for value, why in (
                    ("", "no version"),
                    ("x", "a version is a number"),
                    ("1.0;w=1", "a version is a number"),
                    (" 1;w=1", "no blanks"),
                    ("1; w=1", "no blanks: the key w is missing"),
                    ("1;w=1 ", "no blanks"),
                    ("1,;w=1", "an empty version"),
                    (",1;w=1", "an empty version"),
                    ("1,x;w=1", "every version is a number"),
                    ("1", "w is missing"),
                    ("1;m=5", "w is missing"),
                    ("1;w=0", "w is at least 1"),
                    ("1;w=", "an empty number"),
                    ("1;w=-1", "digits only"),
                    ("1;w=+1", "digits only"),
                    ("1;w=0x10", "digits only"),
                    ("1;w=1e3", "digits only"),
                    ("1;w", "a field has a ="),
                    ("1;w=1;", "a field has a ="),
                    ("1;;w=1", "a field has a ="),
                    ("1;w=1;future", "a field has a =, also an unknown one"),
                    ("1;w=1; x=1", "a key has no blanks, also an unknown one"),
                    ("1;w=1;=1", "an empty key"),
                    ("1;w=1;x=\u00e9", "a value is printable ASCII, also an unknown one"),
                    ("1;w=1;m=x", "a number that is known is checked"),
                    ("1;w=1;h=", "a number that is known is checked"),
                    ("1;w=1;d=-5", "a number that is known is checked"),
                    ("1;w=1;m=99999999999999999999", "more than 64 bits"),
                    ("1;w=1;c=x", "a number that is known is checked"),
                    ("1;w=9;c=99999999999999999999999", "more than 64 bits"),
                    ("1;w=1;p=", "a number that is known is checked"),
                    ("1;w=\u0661", "ASCII digits only"),
                    (fill + "9", "257 bytes"),
                )
            ],
        },
        "answer": {
            "valid": [
                answer("1;r=1048576;h=5000", 1048576, 5000, canonical=True),
                answer("1;r=1;h=60000", 1, 60000, canonical=True),
                answer("1"),
                answer("1;r=65536", 65536),
                answer("1;h=7000", h=7000),
                answer("1;r=1;h=1", 1, 1),
                answer("1;r=1;h=999", 1, 999),
                answer("1;r=1;h=60001", 1, 60001),
                answer("1;r=4611686018427387903;h=1000", 4611686018427387903, 1000, canonical=True),
                answer("1;h=5000;r=8192;future=x", 8192, 5000),
                answer("01;r=8192", 8192),
                answer("1;h=5000;c=0", h=5000, c="0", canonical=True),
                answer("1;c=2;r=8192", 8192, c="2"),
                answer("1;r=8192;w=x", 8192),
            ],
            "invalid": [
                {"value": value, "why": why}
                for value, why in (
                    ("", "no version"),
                    ("2;r=1", "a version that was not offered"),
                    ("1,2;r=1", "an answer to a supported Open names one version"),
                    ("x;r=1", "a version is a number"),
                    ("1;r=", "an empty number"),
                    ("1;r=-1", "digits only"),
                    ("1;r=1;h=x", "digits only"),
                    ("1;r", "a field has a ="),
                    ("1;r=1;", "a field has a ="),
                    ("1;r=99999999999999999999", "more than 64 bits"),
                    ("1;c=x", "a number that is known is checked"),
                    ("1;r=1;c=99999999999999999999999", "more than 64 bits"),
                    ("99999999999999999999999", "a version that was not offered"),
                    ("1;r=1;x=" + "9" * 249, "257 bytes"),
                )
            ],
        },
    }


def item_lists():
    valid, broken = [], []

    def messages(units, count):
        """The units as messages of one stream; the last has the end."""
        out, position = [], 0
        for index, data in enumerate(units):
            fin = status(items=count) if index == len(units) - 1 else None
            out.append(text(unit(SID, position, data, fin)))
            position = after(position, data)
        return out

    def add(name, units, contents, max_item=1000):
        assert b"".join(units) == items(*contents), name
        valid.append(
            {
                "name": name,
                "max_item": max_item,
                "units": [text(data) for data in units],
                "items": [text(content) for content in contents],
                "messages": messages(units, len(contents)),
            }
        )

    long = bytes(range(200)) + bytes(range(100))
    whole = items(long)
    add("nothing", [b""], [])
    add("one", [items(b"one")], [b"one"])
    add("empty-items", [items(b"", b"")], [b"", b""])
    add("several-in-a-unit", [items(b"a", b"", b"bcd", long, b"e")], [b"a", b"", b"bcd", long, b"e"])
    add("several-units", [items(b"a", b"b"), items(b"c"), items(b"d", b"e")], [b"a", b"b", b"c", b"d", b"e"])
    add("units-without-data", [b"", items(b"a"), b"", b""], [b"a"])
    add("split-after-the-length", [whole[:2], whole[2:]], [long])
    add("split-before-the-last-byte", [whole[:-1], whole[-1:]], [long])
    add("split-in-the-middle", [whole[:150], whole[150:]], [long])
    add("split-into-many", [whole[:2], whole[2:3], b"", whole[3:200], whole[200:]], [long])
    add("short-items-around-a-long-one", [items(b"a"), whole[:100], whole[100:200], whole[200:], items(b"z")], [b"a", long, b"z"])
    add("a-long-item-begins-behind-another", [items(b"a") + whole[:50], whole[50:] + items(b"z")], [b"a", long, b"z"])
    add("two-long-items-back-to-back", [whole[:50], whole[50:] + whole[:2], whole[2:]], [long, long])
    add("largest-allowed", [items(b"m" * 1000)], [b"m" * 1000])
    add("largest-allowed-split", [items(b"m" * 1000)[:500], items(b"m" * 1000)[500:]], [b"m" * 1000])
    add("lengths-of-each-size", [items(b"1" * 63, b"2" * 64), items(b"3" * 16383), items(b"4" * 16384)], [b"1" * 63, b"2" * 64, b"3" * 16383, b"4" * 16384], 16384)
    add("a-split-item-of-100000", [items(b"5" * 100000)[:65000], items(b"5" * 100000)[65000:]], [b"5" * 100000], 100000)

    def add_broken(name, units, error, offset, good=(), count=0, max_item=1000, rules=(12, 17)):
        """`offset` is in the message that shows the error; the items `good` come in units before it."""
        broken.append(
            {
                "name": name,
                "rules": list(rules),
                "max_item": max_item,
                "units": [text(data) for data in units],
                "items": [text(content) for content in good],
                "error": error,
                "offset": offset,
                "messages": messages(units, count),
            }
        )

    # What stands before the data: 7 bytes and the position; in the last unit the status too, 7 bytes with its length.
    last = 8 + 7
    later = 7 + 2 + 7
    add_broken("length-split-between-units", [whole[:1], whole[1:]], "Truncated", 8, rules=[12])
    add_broken("length-cut-at-the-end", [items(b"ok") + whole[:1]], "Truncated", last + 3)
    add_broken("length-not-minimal", [items(b"ok") + varint(1, 2) + b"x"], "NotMinimal", last + 3)
    add_broken("length-in-8-bytes-not-minimal", [varint(1, 8) + b"x"], "NotMinimal", last)
    add_broken("item-too-large", [items(b"ok", b"x" * 1001)], "ItemTooLarge", last + 3, rules=[35])
    add_broken("item-too-large-is-seen-at-its-length", [items(b"ok") + varint(1001)], "ItemTooLarge", last + 3, rules=[35])
    add_broken("item-of-2-to-the-62", [varint(MAX_VARINT)], "ItemTooLarge", last, rules=[35])
    add_broken("nothing-allowed-but-empty-items", [items(b"", b"x")], "ItemTooLarge", last + 1, max_item=0, rules=[35])
    add_broken("ends-inside-an-item", [items(b"ok"), whole[:50]], "ItemUnfinished", None, [b"ok"], 1, rules=[52])
    add_broken("ends-after-a-length", [items(b"ok"), whole[:2]], "ItemUnfinished", None, [b"ok"], 1, rules=[52])
    add_broken("one-item-too-few", [items(b"a"), items(b"b")], "WrongCount", None, [b"a", b"b"], 3, rules=[52])
    add_broken("one-item-too-many", [items(b"a", b"b")], "WrongCount", None, [b"a", b"b"], 1, rules=[52])
    add_broken("bad-item-in-a-later-unit", [items(b"a"), items(b"b") + varint(5, 2) + b"hello"], "NotMinimal", later + 2, [b"a"])
    return {"valid": valid, "malformed": broken}


def position_lists():
    out = []
    for name, lengths in (
        ("one-unit", [4]),
        ("the-example-of-the-page", [4, 10, 0]),
        ("without-data", [0, 0, 0]),
        ("where-the-number-grows", [0, 7800, 8128, 0]),
        ("full-units", [65528, 65525, 65525, 65525]),
        ("mixed", [1, 63, 64, 65, 255, 256, 257, 4096, 8192, 65000]),
        ("small", [2] * 50),
    ):
        where, end = positions(lengths)
        entry = {"name": name, "data": lengths, "positions": [str(at) for at in where], "end": str(end)}
        out.append(entry)
    return out


def classes():
    def entry(name, status, headers, content, kind):
        return {"name": name, "status": status, "headers": headers, "hex": text(content), "class": kind}

    some = {"X": "y"}
    return [
        entry("nobody-is-subscribed", 503, {}, b"", "no_responders"),
        entry("503-with-a-subject", 503, {"Nats-Subject": "orders"}, b"", "no_responders"),
        entry("503-with-a-payload", 503, {}, b"x", "no_responders"),
        entry("503-with-a-native-payload", 503, {}, reset(SID), "no_responders"),
        entry("bare-empty", None, None, b"", "bare_empty"),
        entry("empty-with-a-header", None, some, b"", "foreign"),
        entry("empty-with-an-empty-header-block", None, {}, b"", "foreign"),
        entry("empty-with-an-error", None, {"Nats-Service-Error": "x", "Nats-Service-Error-Code": "500"}, b"", "foreign"),
        entry("empty-with-the-natstream-header", None, {"Natstream": "1;r=1"}, b"", "foreign"),
        entry("another-status", 408, {}, b"", "foreign"),
        entry("another-status-with-a-native-payload", 100, {}, reset(SID), "native"),
        entry("native", None, None, reset(SID), "native"),
        entry("native-with-headers", None, some, beat(SID, 0, 0), "native"),
        entry("native-by-its-first-byte-alone", None, None, b"\xfe", "native"),
        entry("text", None, None, b"hello", "foreign"),
        entry("text-end", None, None, b"__STREAM_END__", "foreign"),
        entry("first-byte-ff", None, None, b"\xff\xfe", "foreign"),
        entry("first-byte-00", None, None, b"\x00", "foreign"),
        entry("text-with-the-natstream-header", None, {"Natstream": "1;r=1"}, b"hello", "foreign"),
    ]


def subjects():
    def entry(subject, safe, mapped=False, prefixes=(), why=None):
        out = {"subject": subject, "prefixes": list(prefixes), "safe": safe, "mapped": mapped}
        if why:
            out["why"] = why
        return out

    longest = "_INBOX." + "a" * 248
    mine = ("MYBOX.", "replies")
    return [
        entry("_INBOX.Ab3dE.7LrguHAq2Ai04aShXyZ123", True),
        entry("_INBOX_app.x.y", True),
        entry("_INBOX", True),
        entry("_R_.Ab3.x", True, True),
        entry("_R_.Ab3", True, True),
        entry("MYBOX.1", True, prefixes=mine),
        entry("replies.1.2", True, prefixes=mine),
        entry("_INBOX.!#%&/()=?-_:;,<~", True, why="printable, and neither * nor >"),
        entry(longest, True, why="255 bytes"),
        entry(longest + "a", False, why="256 bytes"),
        entry("", False),
        entry("orders.reset", False, why="no known prefix"),
        entry("MYBOX.1", False, why="the prefix is not configured"),
        entry("inbox.a", False, why="case counts"),
        entry("_inbox.a", False, why="case counts"),
        entry("x._INBOX.a", False, why="a prefix stands in front"),
        entry("_R_", False, why="the dot belongs to the prefix"),
        entry("_R.a", False),
        entry("$JS.API.STREAM.DELETE.ORDERS", False),
        entry("$SYS.REQ.SERVER.PING", False, prefixes=["$SYS."], why="never below $"),
        entry("orders", False, prefixes=[""], why="an empty prefix allows nothing"),
        entry("_INBOX..a", False, why="empty token"),
        entry("_INBOX.", False, why="empty token"),
        entry("_INBOX.a.", False, why="empty token"),
        entry("._INBOX.a", False, why="empty token"),
        entry("_INBOX.*", False, why="wildcard"),
        entry("_INBOX.>", False, why="wildcard"),
        entry("_INBOX.a*b", False, why="wildcard byte, also inside a token"),
        entry("_R_.>", False, True, why="wildcard"),
        entry("_INBOX.a b", False, why="blank"),
        entry("_INBOX.a\tb", False, why="not printable"),
        entry("_INBOX.a\r\nPUB x 0\r\n\r\n", False, why="not printable"),
        entry("_INBOX.a\u0000", False, why="not printable"),
        entry("_INBOX.a\u007f", False, why="not printable"),
        entry("_INBOX.\u00e9", False, why="not ASCII"),
    ]
