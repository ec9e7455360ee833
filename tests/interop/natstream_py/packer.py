"""From items to units at the responder (rules 12 to 15): positions and sizes."""

from dataclasses import dataclass
from typing import List, Optional

import wire
from wire import Status, put_varint

GATHER = 8192
OWN_UNIT = 4096


@dataclass
class Kept:
    """A unit with its bytes, which never change (rule 14). `items`: whole items up to its end."""

    position: int
    end: int
    payload: bytes
    items: int
    fin: Optional[Status] = None
    bare: bool = True
    times_sent: int = 0


class Packer:
    """Gathers small items, splits large ones, and gives each unit its position when there is
    credit for it."""

    def __init__(self, sid: int, unit_max: int) -> None:
        self.sid = sid
        self.unit_max = unit_max
        self.position = 0
        self.items = 0
        self.fin: Optional[Status] = None
        self.done = False
        self._gather = bytearray()
        self._gathered = 0
        self._rest: bytes = b""

    @property
    def split(self) -> bool:
        """An item is being sent in parts; nothing may follow it yet."""
        return bool(self._rest)

    @property
    def waiting(self) -> bool:
        return bool(self._gather or self._rest or (self.fin is not None and not self.done))

    def _room(self) -> int:
        return self.unit_max - 7 - len(put_varint(self.position))

    def offer(self, item: bytes, limit: int) -> List[Kept]:
        """Takes an item; gives back the units that had to be closed for it."""
        data = put_varint(len(item)) + item
        made: List[Kept] = []
        fits = len(data) <= self._room()
        alone = not fits or len(item) >= OWN_UNIT
        if self._gather and (alone or len(self._gather) + len(data) > min(GATHER, self._room())):
            made.append(self._close_gather())
            fits = len(data) <= self._room()
        if fits:
            self._gather += data
            self._gathered += 1
        else:
            self._rest = data
        if alone or len(self._gather) >= GATHER:
            made += self.flush(limit)
        return made

    def flush(self, limit: int) -> List[Kept]:
        """All units that the effective limit allows (rule 30); the last one goes beyond it."""
        made: List[Kept] = []
        while not self.done:
            bare_fin = self.fin is not None and not self._gather and not self._rest
            if self.position >= limit and not bare_fin:
                break
            if self._gather:
                made.append(self._close_gather())
            elif self._rest:
                part = self._rest[:self._room()]
                self._rest = self._rest[len(part):]
                self.items += not self._rest
                made.append(self._make(part))
            elif self.fin is not None:
                made.append(self._make_fin(b""))
            else:
                break
        return made

    def empty_unit(self) -> Kept:
        """Unit 0 when the handler is slow (rule 21)."""
        return self._make(b"")

    def abort(self, status: Status, position: int, items: int) -> Kept:
        """FIN in place of everything that was not sent (rule 58)."""
        self._gather = bytearray()
        self._gathered = 0
        self._rest = b""
        self.position, self.items, self.fin = position, items, status
        return self._make_fin(b"")

    def _close_gather(self) -> Kept:
        data = bytes(self._gather)
        self._gather = bytearray()
        self.items += self._gathered
        self._gathered = 0
        if self.fin is not None:
            block = wire.encode_status(self.fin, self.items)
            if len(data) + len(block) <= self._room():
                return self._make_fin(data)
        return self._make(data)

    def _make(self, data: bytes) -> Kept:
        unit = wire.Unit(self.sid, self.position, data)
        self.position = unit.end
        return Kept(unit.position, unit.end, wire.encode(unit), self.items)

    def _make_fin(self, data: bytes) -> Kept:
        self.done = True
        unit = wire.Unit(self.sid, self.position, data, self.fin, self.items)
        self.position = unit.end
        payload = wire.encode(unit, self._room_at(unit) - len(data))
        return Kept(unit.position, unit.end, payload, self.items, self.fin, not data)

    def _room_at(self, unit: wire.Unit) -> int:
        return self.unit_max - 7 - len(put_varint(unit.position))
