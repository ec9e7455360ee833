"""From the data of units to items (rules 12, 17 and 35)."""

from typing import List

from wire import Malformed, get_varint


class OutOfRoom(Exception):
    """The budget of the process for unfinished items is used up (rule 35)."""


class Budget:
    """Bytes that all streams of a process may use together."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        if size > self.left:
            return False
        self.left -= size
        return True

    def give(self, size: int) -> None:
        self.left += size


class ItemReader:
    """Puts items together. A unit counts as a whole or not at all, since nothing of a malformed
    message may be delivered (rule 17): it is cut first, and kept only then."""

    def __init__(self, max_item: int, budget: Budget) -> None:
        self.max_item = max_item
        self.missing = 0
        self.count = 0
        self._part = bytearray()
        self._budget = budget

    def read(self, data: bytes) -> List[bytes]:
        """The items that are whole now. Offsets of errors are those in `data`."""
        head = data[:self.missing]
        still_missing = self.missing - len(head)
        at = len(head)
        whole: List[bytes] = []
        tail = b""
        tail_missing = 0
        while at < len(data):
            length, at = get_varint(data, at)
            if length > self.max_item:
                raise Malformed("ItemTooLarge", at)
            if length > len(data) - at:
                tail = data[at:]
                tail_missing = length - len(tail)
                break
            whole.append(data[at:at + length])
            at += length

        if self.missing:
            self._grow(head)
            self.missing = still_missing
            if not still_missing:
                whole.insert(0, bytes(self._part))
                self.close()
        if tail_missing:
            self._grow(tail)
            self.missing = tail_missing
        self.count += len(whole)
        return whole

    def close(self) -> None:
        """Gives the buffer back to the budget."""
        self._budget.give(len(self._part))
        self._part = bytearray()

    def _grow(self, part: bytes) -> None:
        # By what arrived, never by an announced length (rule 35).
        if not self._budget.take(len(part)):
            raise OutOfRoom()
        self._part += part
