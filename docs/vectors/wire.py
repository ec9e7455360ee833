"""Writes the messages of the natstream protocol, version 1, as docs/protocol.md describes them.

Written from that page and from nothing else, so that it can disagree with the Rust crate.
"""

MARKER = 0xFE
UNIT, BEAT, RESET, STATE, CLOSE = 0x01, 0x02, 0x03, 0x11, 0x12
FIN = 0x01
REWIND = 0x01
NOT_PROCESSED, RETRYABLE = 0x01, 0x02
DONE, CANCELLED, UNWANTED, DEADLINE, PROTOCOL = range(5)
UNIT_COST = 256
MAX_VARINT = (1 << 62) - 1

CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
    "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
    "UNAUTHENTICATED"
).split()


def varint(value, size=None):
    """Rule 10. `size` forces a longer form than the minimal one, which is malformed."""
    assert 0 <= value <= MAX_VARINT
    if size is None:
        size = 1 if value < 1 << 6 else 2 if value < 1 << 14 else 4 if value < 1 << 30 else 8
    prefix = {1: 0, 2: 1, 4: 2, 8: 3}[size]
    return (value | prefix << (8 * size - 2)).to_bytes(size, "big")


def block(content):
    """A length and as many bytes."""
    return varint(len(content)) + content


def head(kind, sid):
    return bytes([MARKER, kind]) + sid.to_bytes(4, "big")


def status(code=0, flags=0, retry_after=0, items=0, message="", details=b"", trailing=b""):
    """The status block of rule 15, without its length."""
    if isinstance(message, str):
        message = message.encode()
    return (
        bytes([code, flags]) + varint(retry_after) + varint(items) + block(message) + block(details) + trailing
    )


def unit(sid, position, data=b"", fin=None, flags=0):
    """A UNIT; `fin` is a status block."""
    if fin is not None:
        flags |= FIN
    out = head(UNIT, sid) + bytes([flags]) + varint(position)
    if fin is not None:
        out += block(fin)
    return out + data


def beat(sid, announce, position):
    return head(BEAT, sid) + varint(announce) + varint(position)


def reset(sid):
    return head(RESET, sid)


def state(sid, next, limit, rewind=False, flags=0):
    return head(STATE, sid) + bytes([flags | (REWIND if rewind else 0)]) + varint(next) + varint(limit)


def close(sid, code):
    return head(CLOSE, sid) + bytes([code])


def item(content):
    """Rule 12."""
    return block(content)


def items(*contents):
    return b"".join(item(content) for content in contents)


def after(position, data):
    """Rule 13: where the unit after one with this data stands."""
    return position + len(data) + UNIT_COST


def positions(lengths):
    """The positions of units with data of these lengths, and the end of the last."""
    out = [0]
    for length in lengths:
        out.append(out[-1] + length + UNIT_COST)
    return out[:-1], out[-1]


def text(content):
    """Bytes as the vector files write them: hex, and `(xx*n)` for a long run of one byte."""
    out, at = [], 0
    while at < len(content):
        run = at
        while run < len(content) and content[run] == content[at]:
            run += 1
        if run - at >= 16:
            out.append(f"({content[at]:02x}*{run - at})")
        else:
            out.append(content[at:run].hex())
        at = run
    return "".join(out)
