"""What comes from the other side besides the frame: subjects, classes, strays (rules 5 to 9)."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence

import wire
from header import NAME

ERROR_HEADER = "Nats-Service-Error"
ERROR_CODE_HEADER = "Nats-Service-Error-Code"
_RULE6_MAX = 255


@dataclass(frozen=True)
class Incoming:
    """A message as it arrived. `headers` is None when it has no header block."""

    payload: bytes
    headers: Optional[Dict[str, str]] = None
    reply: str = ""
    status: Optional[int] = None

    def header(self, name: str) -> Optional[str]:
        return (self.headers or {}).get(name)


@dataclass(frozen=True)
class Outgoing:
    """A message to be sent. `own_reply`: the sender's own subject goes along as reply."""

    subject: str
    payload: bytes
    headers: Dict[str, str] = field(default_factory=dict)
    own_reply: bool = False


def is_mapped(subject: str) -> bool:
    return subject.startswith("_R_.")


def is_usable(subject: str, prefixes: Sequence[str] = (), served: Sequence[str] = ()) -> bool:
    """Rule 6. `served`: subjects that are served on the same connection, with wildcards."""
    if not 1 <= len(subject) <= _RULE6_MAX or subject.startswith("$"):
        return False
    if any(not 0x21 <= ord(c) <= 0x7E or c in "*>" for c in subject):
        return False
    tokens = subject.split(".")
    if "" in tokens:
        return False
    allowed = ["_INBOX", "_R_."] + [prefix for prefix in prefixes if prefix]
    if not subject.startswith(tuple(allowed)):
        return False
    return not any(_covers(pattern.split("."), tokens) for pattern in served)


def _covers(pattern: List[str], tokens: List[str]) -> bool:
    for index, part in enumerate(pattern):
        if part == ">":
            return len(tokens) > index
        if index >= len(tokens) or part not in ("*", tokens[index]):
            return False
    return len(pattern) == len(tokens)


def classify(message: Incoming) -> str:
    """Rule 7: the first class that fits."""
    if message.status == 503:
        return "no_responders"
    if message.headers is None and message.status is None and not message.payload:
        return "bare_empty"
    if message.payload[:1] == bytes([wire.MARKER]):
        return "native"
    return "foreign"


def service_error(message: Incoming) -> Optional[wire.Status]:
    """What a refusal by another version says, if it is one (rule 8)."""
    code, text = message.header(ERROR_CODE_HEADER), message.header(ERROR_HEADER)
    if code is None and text is None:
        return None
    number = int(code) if code is not None and code.isascii() and code.isdigit() else 0
    number = number if 1 <= number <= 255 else wire.CODES["UNKNOWN"]
    text = text or ""
    name = wire.code_name(number)
    if text == name or text.startswith(name + ": "):
        text = text[len(name) + 2:]
    return wire.Status(number, text, b"", True)


def error_headers(status: wire.Status) -> Dict[str, str]:
    """The headers by which programs that know nothing of natstream see a failure (rule 15)."""
    text = wire.code_name(status.code)
    if status.message:
        text += ": " + status.message
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    return {ERROR_HEADER: plain[:256], ERROR_CODE_HEADER: str(status.code)}


def refuse_stream(sid: int, subject: str) -> List[Outgoing]:
    """CLOSE(UNWANTED), and if the subject is mapped the end of its mapping (rules 8, 9, 61)."""
    messages = [Outgoing(subject, wire.encode(wire.Close(sid, wire.UNWANTED)))]
    if is_mapped(subject):
        messages.append(Outgoing(subject, b""))
    return messages


def answer_stray(message: Incoming, prefixes: Sequence[str] = (),
                 served: Sequence[str] = ()) -> List[Outgoing]:
    """What a message gets whose token is not live: a STATE gets RESET (rule 50), a UNIT and a BEAT
    get CLOSE(UNWANTED) (rule 9). The caller of this bounds the rate."""
    if classify(message) != "native" or not message.reply:
        return []
    try:
        frame = wire.decode(message.payload)
    except wire.Malformed:
        return []
    if not is_usable(message.reply, prefixes, served):
        return []
    if isinstance(frame, wire.State):
        return [Outgoing(message.reply, wire.encode(wire.Reset(frame.sid)))]
    if isinstance(frame, (wire.Unit, wire.Beat)):
        return refuse_stream(frame.sid, message.reply)
    return []


def natstream_header(message: Incoming) -> Optional[str]:
    return message.header(NAME)
