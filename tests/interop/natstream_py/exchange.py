"""Replays the exchanges of the vectors with one role played by this implementation.

The steps of the other side are given to the machine; what the machine sends is noted with its
moment and compared with the steps of its own side: UNITs, CLOSEs and bare empty messages one by
one, STATEs and BEATs as "one like it by then", since more and earlier ones are right too.
"""

from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

import wire
from inbound import Inbound
from outbound import Outbound, refusal
from header import parse_open
from peer import ERROR_HEADER, Incoming, Outgoing, answer_stray
from vectors import unhex


def subject_of(name: str, mapped: bool, alias: int) -> str:
    return f"_R_.{name.replace(' ', '')}{alias}" if mapped else f"_INBOX.{name.replace(' ', '')}.k"


def status_of(fields: Dict[str, Any]) -> wire.Status:
    return wire.Status(fields["code"], fields["message"], unhex(fields["details"]),
                       fields["not_processed"], fields["retryable"],
                       int(fields["retry_after_ms"]))


def without_text(payload: bytes) -> bytes:
    """A UNIT whose status has no message."""
    unit = wire.decode(payload)
    if not isinstance(unit, wire.Unit) or unit.fin is None:
        return payload
    return wire.encode(replace(unit, fin=replace(unit.fin, message="")))


def is_strict(payload: bytes) -> bool:
    """UNITs, CLOSEs, RESETs and bare empty messages have to be the same, and as many."""
    return not payload or payload[1] not in (wire.STATE, wire.BEAT)


class Replay:
    """What both roles have in common: time passes step by step, and every clock between."""

    role = ""

    def __init__(self, vector: Dict[str, Any]) -> None:
        self.vector = vector
        self.mapped = vector.get("mapped", False)
        self.now = 0
        self.sent: List[Tuple[int, Outgoing]] = []
        self.problems: List[str] = []
        self.ended_at: Optional[int] = None
        self.connected = True

    def send(self, message: Outgoing) -> bool:
        if self.connected:
            self.sent.append((self.now, message))
        return self.connected

    def incoming(self, step: Dict[str, Any]) -> Incoming:
        payload, headers = unhex(step["hex"]), step["headers"]
        reply = ""
        if step.get("control"):
            # A repetition by "somebody" carries the subject of the responder that sent it first.
            owner = step["from"].replace("somebody", "responder")
            reply = subject_of(owner, self.mapped, step.get("alias", 0))
        return Incoming(payload, headers, reply, step.get("status"))

    def run(self) -> None:
        for step in self.vector["steps"]:
            self.pass_time(step["at"])
            self.play(step)
            self.settle()
        self.pass_time(self.vector["expect"].get("at", self.now))
        self.compare()

    def pass_time(self, until: int) -> None:
        while True:
            moment = self.next_deadline()
            if moment is None or moment > until:
                break
            self.now = max(self.now, moment)
            self.tick()
        self.now = max(self.now, until)
        self.tick()

    def compare(self) -> None:
        wanted = [step for step in self.vector["steps"]
                  if step.get("from") == self.role and step.get("to") != "service"]
        strict = [(moment, message) for moment, message in self.sent if is_strict(message.payload)]
        loose = [(moment, message) for moment, message in self.sent
                 if not is_strict(message.payload)]
        for step in wanted:
            pool = strict if is_strict(unhex(step["hex"])) else loose
            found = next((sent for sent in pool if self.fits(step, *sent)), None)
            if found is None:
                self.problems.append(f"not sent: {step}")
            else:
                pool.remove(found)
        self.problems += [f"too much at {moment}: {message.subject} {message.payload.hex()[:60]}"
                          for moment, message in strict]

    def fits(self, step: Dict[str, Any], moment: int, message: Outgoing) -> bool:
        if moment > step["at"] or message.subject != self.subject_to(step):
            return False
        wanted, headers = unhex(step["hex"]), dict(step["headers"] or {})
        payload, mine = message.payload, dict(message.headers)
        if step.get("own_text"):
            wanted, payload = without_text(wanted), without_text(payload)
            mine[ERROR_HEADER] = headers.get(ERROR_HEADER, "")
        return (payload == wanted and mine == headers
                and message.own_reply == bool(step["control"]))

    # What the roles fill in

    def subject_to(self, step: Dict[str, Any]) -> str:
        raise NotImplementedError

    def play(self, step: Dict[str, Any]) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        raise NotImplementedError

    def tick(self) -> None:
        raise NotImplementedError

    def next_deadline(self) -> Optional[int]:
        raise NotImplementedError


class CallerReplay(Replay):
    role = "caller"

    def __init__(self, vector: Dict[str, Any], max_item: int = 16 << 20) -> None:
        super().__init__(vector)
        settings = vector.get("settings", {"max_window": 1 << 20})
        self.machine = Inbound(self.send, 0, window=settings["max_window"], max_item=max_item,
                               deadline_ms=settings.get("deadline_ms"))
        self.items: List[bytes] = []
        self.reading = True

    def receive_all(self, payloads: List[bytes]) -> None:
        for payload in payloads:
            self.machine.on_message(0, Incoming(payload, {"Natstream": "1"}, "_INBOX.a.b"))
            self.settle()

    def subject_to(self, step: Dict[str, Any]) -> str:
        return subject_of(step["to"], self.mapped, step.get("alias", 0))

    def play(self, step: Dict[str, Any]) -> None:
        if step.get("from") == "caller" and step["to"] == "service":
            if step["headers"]["Natstream"] != self.machine.open_header():
                self.problems.append(f"another Open: {self.machine.open_header()}")
        elif step.get("to") == "caller" and not step.get("lost"):
            message = self.incoming(step)
            if self.machine.verdict is not None:
                for answer in answer_stray(message):
                    self.send(answer)
            self.machine.on_message(self.now, message)
        elif step.get("user") == "cancels":
            self.machine.cancel(self.now)
        elif "user" in step:
            self.reading = step["user"] == "reads"
        elif step.get("connection") == "caller":
            self.connected = step["is"] == "up"
            (self.machine.on_up if self.connected else self.machine.on_down)(self.now)

    def settle(self) -> None:
        self.read()
        self.tick()

    def read(self) -> None:
        while self.reading:
            item = self.machine.take()
            if item is None:
                break
            self.items.append(item)

    def tick(self) -> None:
        self.machine.tick(self.now)
        if self.machine.verdict is not None and self.ended_at is None:
            self.ended_at = self.now
            # A user who has stopped still gets what was received before the verdict.
            self.reading = True
            self.read()

    def next_deadline(self) -> Optional[int]:
        return self.machine.next_deadline()

    def fits(self, step: Dict[str, Any], moment: int, message: Outgoing) -> bool:
        if super().fits(step, moment, message):
            return True
        wanted = unhex(step["hex"])
        if is_strict(wanted) or moment > step["at"] or message.subject != self.subject_to(step):
            return False
        mine, theirs = wire.decode(message.payload), wire.decode(wanted)
        assert isinstance(mine, wire.State) and isinstance(theirs, wire.State)
        # Limits are what this project does; more is right too.
        return ((mine.next, mine.rewind) == (theirs.next, theirs.rewind)
                and mine.limit > theirs.limit and message.own_reply == bool(step["control"]))

    def verdict(self) -> Optional[Dict[str, Any]]:
        """In the notation of the vectors."""
        verdict = self.machine.verdict
        if verdict is None:
            return None
        shown: Dict[str, Any] = {"kind": verdict.kind}
        status = verdict.status
        if verdict.kind == "ended" and status is not None:
            shown.update(items=str(verdict.items), trailers=status.details.hex())
        elif status is not None:
            shown.update(code=status.code, message=status.message, details=status.details.hex(),
                         not_processed=status.not_processed, retryable=status.retryable,
                         retry_after_ms=str(status.retry_after_ms))
        elif verdict.detail == "protocol":
            shown = {"kind": "protocol", "what": verdict.what}
        elif verdict.kind == "lost":
            shown.update(items=str(verdict.items), cause=verdict.detail)
        elif verdict.kind == "timed_out":
            shown["clock"] = verdict.detail
        return shown


class ResponderReplay(Replay):
    role = "responder"

    def __init__(self, vector: Dict[str, Any]) -> None:
        super().__init__(vector)
        self.machine: Optional[Outbound] = None
        self.held: List[bytes] = []

    def subject_to(self, step: Dict[str, Any]) -> str:
        return subject_of("caller", self.mapped, 0)

    def play(self, step: Dict[str, Any]) -> None:
        if step.get("to") == "service":
            opened = parse_open(step["headers"]["Natstream"])
            self.machine = Outbound(self.send, self.now, sid=self.vector["sid"], opened=opened,
                                    reply=self.subject_to(step),
                                    stall=self.vector["settings"].get("stall_ms", 300000))
        elif self.machine is None:
            return
        elif step.get("to") == "responder" and not step.get("lost"):
            self.machine.on_message(self.now, self.incoming(step))
        elif step.get("connection") == "responder":
            self.connected = step["is"] == "up"
            (self.machine.on_up if self.connected else self.machine.on_down)(self.now)
        elif "handler" in step:
            self.handle(step["handler"])

    def handle(self, does: Dict[str, Any]) -> None:
        machine = self.machine
        assert machine is not None
        if "refuses" in does:
            self.machine = None
            for message in refusal(self.vector["sid"], subject_of("caller", self.mapped, 0),
                                   status_of(does["refuses"])):
                self.send(message)
            return
        if does.get("waits"):
            machine.waits(self.now)
            return
        for item in does["sends"]:
            machine.offer(self.now, unhex(item))
        if "aborts" in does:
            machine.abort(self.now, status_of(does["aborts"]))
        elif "ends" in does and not machine.sending_parts():
            machine.finish(self.now, status_of(does["ends"]))
        else:
            machine.flush(self.now)

    def settle(self) -> None:
        self.tick()

    def tick(self) -> None:
        if self.machine is None:
            return
        self.machine.tick(self.now)
        while self.machine.pump(self.now):
            pass
        if self.machine.ended is not None and self.ended_at is None:
            self.ended_at = self.now

    def next_deadline(self) -> Optional[int]:
        return None if self.machine is None else self.machine.next_deadline()
