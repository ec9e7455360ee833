"""The value of the header `Natstream` in an Open and in an Answer (rules 16 and 19)."""

import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

NAME = "Natstream"
VERSION = 1
VALUE_MAX = 256
HEARTBEAT_MS = 5000
_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_VALUE = re.compile(r"[\x21-\x3a\x3c-\x7e]*\Z")
_NUMBER = re.compile(r"[0-9]+\Z")


class HeaderError(Exception):
    """The header breaks the grammar, or a number in it is wrong."""


class Unsupported(HeaderError):
    """The header is well written as far as it may be read, but names no version of ours."""


@dataclass(frozen=True)
class Open:
    w: int
    m: Optional[int] = None
    h: Optional[int] = None
    d: Optional[int] = None
    c: Optional[int] = None
    p: Optional[int] = None


@dataclass(frozen=True)
class Answer:
    r: Optional[int] = None
    h: int = HEARTBEAT_MS
    c: Optional[int] = None


def clamp_heartbeat(ms: int) -> int:
    return min(max(ms, 1000), 60000)


def write_open(fields: Open) -> str:
    parts = [str(VERSION), f"w={fields.w}"]
    for key in "mhdcp":
        value = getattr(fields, key)
        if value is not None:
            parts.append(f"{key}={value}")
    return ";".join(parts)


def write_answer(fields: Answer) -> str:
    retention = "" if fields.r is None else f";r={fields.r}"
    control = "" if fields.c is None else f";c={fields.c}"
    return f"{VERSION}{retention};h={fields.h}{control}"


def parse_open(value: str) -> Open:
    versions, rest = _versions(value)
    if VERSION not in versions:
        raise Unsupported(value)
    known = _fields(rest, "wmhdcp")
    if known.get("w", 0) < 1:
        raise HeaderError("w is missing or 0")
    return Open(known["w"], *(known.get(key) for key in "mhdcp"))


def parse_answer(value: str) -> Answer:
    versions, rest = _versions(value)
    if versions != [VERSION]:
        raise HeaderError("not the one version that was offered")
    known = _fields(rest, "rhc")
    r = known.get("r")
    return Answer(
        None if r is None else max(r, 1),
        clamp_heartbeat(known.get("h", HEARTBEAT_MS)),
        known.get("c"),
    )


def _versions(value: str) -> Tuple[List[int], Optional[str]]:
    """The list at the front; what stands behind the first `;` is not looked at here, since it is
    not ours to read when we speak none of the versions (rule 16)."""
    if len(value.encode("utf-8", "replace")) > VALUE_MAX:
        raise HeaderError("too long")
    front, separator, rest = value.partition(";")
    numbers = front.split(",")
    if not all(_NUMBER.match(number) for number in numbers):
        raise HeaderError("a version is a number")
    return [int(number) for number in numbers], rest if separator else None


def _fields(rest: Optional[str], known: str) -> Dict[str, int]:
    fields: Dict[str, int] = {}
    for field in [] if rest is None else rest.split(";"):
        key, separator, value = field.partition("=")
        if not separator or not _KEY.match(key) or not _VALUE.match(value):
            raise HeaderError("not a field")
        if key not in tuple(known):
            continue
        if not _NUMBER.match(value) or int(value) >= 1 << 64:
            raise HeaderError("not a number of 64 bits")
        fields[key] = int(value)
    return fields
