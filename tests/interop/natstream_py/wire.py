"""Numbers and native messages as bytes (rules 10 to 17): encode and decode, nothing else."""

from dataclasses import dataclass
from typing import Optional, Tuple, Union

MARKER = 0xFE
UNIT, BEAT, RESET, STATE, CLOSE = 0x01, 0x02, 0x03, 0x11, 0x12
DONE, CANCELLED, UNWANTED, DEADLINE, PROTOCOL = range(5)

VARINT_MAX = (1 << 62) - 1
UNIT_MAX = 65536
UNIT_COST = 256
MESSAGE_MAX = 1024
DETAILS_MAX = 4096

CODE_NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
    "UNAUTHENTICATED",
)
CODES = {name: number for number, name in enumerate(CODE_NAMES)}


def code_name(code: int) -> str:
    return CODE_NAMES[code] if code < len(CODE_NAMES) else f"CODE_{code}"


class Malformed(Exception):
    """A message that no reader may accept (rule 17). `sid` is None when it is too short for one."""

    def __init__(self, error: str, offset: int) -> None:
        super().__init__(f"{error} at {offset}")
        self.error = error
        self.offset = offset
        self.sid: Optional[int] = None


@dataclass(frozen=True)
class Status:
    """The status block without its count of items, which the stream adds (rule 15)."""

    code: int = 0
    message: str = ""
    details: bytes = b""
    not_processed: bool = False
    retryable: bool = False
    retry_after_ms: int = 0


@dataclass(frozen=True)
class Unit:
    sid: int
    position: int
    data: bytes
    fin: Optional[Status] = None
    items: int = 0

    @property
    def end(self) -> int:
        """The position of the unit after this one (rule 13)."""
        return self.position + len(self.data) + UNIT_COST


@dataclass(frozen=True)
class Beat:
    sid: int
    announce: int
    position: int


@dataclass(frozen=True)
class Reset:
    sid: int


@dataclass(frozen=True)
class State:
    sid: int
    next: int
    limit: int
    rewind: bool = False


@dataclass(frozen=True)
class Close:
    sid: int
    code: int


@dataclass(frozen=True)
class Unknown:
    """A kind of a later version: ignored and counted, never malformed behind its sid (rule 17)."""

    sid: int
    kind: int


Frame = Union[Unit, Beat, Reset, State, Close, Unknown]


def put_varint(value: int) -> bytes:
    """The shortest form, as rule 10 demands."""
    if value < 0 or value > VARINT_MAX:
        raise ValueError(f"not a varint: {value}")
    for prefix, size in ((0, 1), (1, 2), (2, 4)):
        if value < 1 << (8 * size - 2):
            return (value | prefix << (8 * size - 2)).to_bytes(size, "big")
    return (value | 3 << 62).to_bytes(8, "big")


def get_varint(data: bytes, at: int) -> Tuple[int, int]:
    """The number at `at`, and where it ends. Longer forms than needed are malformed (rule 10)."""
    if at >= len(data):
        raise Malformed("Truncated", at)
    size = 1 << (data[at] >> 6)
    if at + size > len(data):
        raise Malformed("Truncated", at)
    value = int.from_bytes(data[at:at + size], "big") & ((1 << (8 * size - 2)) - 1)
    if size > 1 and value < 1 << (8 * (size // 2) - 2):
        raise Malformed("NotMinimal", at)
    return value, at + size


def cut_text(text: str, limit: int) -> bytes:
    """UTF-8 of at most `limit` bytes that ends at the end of a character (rule 15)."""
    raw = text.encode("utf-8", "replace")
    return raw if len(raw) <= limit else raw[:max(limit, 0)].decode("utf-8", "ignore").encode()


def encode_status(status: Status, items: int, room: int = 1 << 20) -> bytes:
    """The status block with its length, at most `room` bytes: first the details go, then the
    message is cut (rule 15)."""
    flags = int(status.not_processed) | int(status.retryable) << 1 if status.code else 0
    wait = status.retry_after_ms if status.code else 0
    fixed = bytes([status.code, flags]) + put_varint(wait) + put_varint(items)
    details = status.details if len(status.details) <= DETAILS_MAX else b""
    message = cut_text(status.message, MESSAGE_MAX)

    def block() -> bytes:
        inner = (fixed + put_varint(len(message)) + message
                 + put_varint(len(details)) + details)
        return put_varint(len(inner)) + inner

    if len(block()) > room:
        details = b""
    over = len(block()) - room
    if over > 0:
        message = cut_text(status.message, min(len(message), MESSAGE_MAX) - over)
    return block()


def encode(frame: Frame, status_room: int = 1 << 20) -> bytes:
    """The payload of a native message (rule 11)."""
    sid = frame.sid.to_bytes(4, "big")
    if isinstance(frame, Unit):
        status = b"" if frame.fin is None else encode_status(frame.fin, frame.items, status_room)
        return (bytes([MARKER, UNIT]) + sid + bytes([frame.fin is not None])
                + put_varint(frame.position) + status + frame.data)
    if isinstance(frame, Beat):
        return (bytes([MARKER, BEAT]) + sid + put_varint(frame.announce)
                + put_varint(frame.position))
    if isinstance(frame, State):
        return (bytes([MARKER, STATE]) + sid + bytes([frame.rewind])
                + put_varint(frame.next) + put_varint(frame.limit))
    if isinstance(frame, Close):
        return bytes([MARKER, CLOSE]) + sid + bytes([frame.code])
    if isinstance(frame, Reset):
        return bytes([MARKER, RESET]) + sid
    return bytes([MARKER, frame.kind]) + sid


def decode(payload: bytes) -> Frame:
    """Reads a native message. Flags that are not known are ignored (rule 17)."""
    if not payload:
        raise Malformed("Truncated", 0)
    if payload[0] != MARKER:
        raise Malformed("NotNative", 0)
    if len(payload) < 2:
        raise Malformed("Truncated", 1)
    if len(payload) < 6:
        raise Malformed("Truncated", 2)
    sid = int.from_bytes(payload[2:6], "big")
    try:
        return _decode_fields(payload, payload[1], sid)
    except Malformed as error:
        error.sid = sid
        raise


def _decode_fields(payload: bytes, kind: int, sid: int) -> Frame:
    if kind == UNIT:
        return _decode_unit(payload, sid)
    if kind == BEAT:
        announce, at = get_varint(payload, 6)
        position, _ = get_varint(payload, at)
        return Beat(sid, announce, position)
    if kind == RESET:
        return Reset(sid)
    if kind == STATE:
        flags = _byte(payload, 6)
        next_, at = get_varint(payload, 7)
        limit, _ = get_varint(payload, at)
        return State(sid, next_, limit, bool(flags & 1))
    if kind == CLOSE:
        return Close(sid, _byte(payload, 6))
    return Unknown(sid, kind)


def _decode_unit(payload: bytes, sid: int) -> Unit:
    if len(payload) > UNIT_MAX:
        raise Malformed("UnitTooLarge", UNIT_MAX)
    flags = _byte(payload, 6)
    position, at = get_varint(payload, 7)
    if not flags & 1:
        return Unit(sid, position, payload[at:])
    size, start = get_varint(payload, at)
    if size > len(payload) - start:
        raise Malformed("Truncated", start)
    status, items = _decode_status(payload[:start + size], start)
    return Unit(sid, position, payload[start + size:], status, items)


def _decode_status(data: bytes, at: int) -> Tuple[Status, int]:
    """`data` ends with the block, so that no field can reach beyond it; the rest of the block is
    what later versions add (rule 15)."""
    code = _byte(data, at)
    flags = _byte(data, at + 1)
    wait, at = get_varint(data, at + 2)
    items, at = get_varint(data, at)
    message, at = _part(data, at, MESSAGE_MAX)
    details, at = _part(data, at, DETAILS_MAX)
    text = message.decode("utf-8", "replace")
    return Status(code, text, details, bool(flags & 1), bool(flags & 2), wait), items


def _part(data: bytes, at: int, limit: int) -> Tuple[bytes, int]:
    size, at = get_varint(data, at)
    if size > len(data) - at:
        raise Malformed("Truncated", at)
    if size > limit:
        raise Malformed("StatusTooLong", at + size)
    return data[at:at + size], at + size


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise Malformed("Truncated", at)
    return data[at]
