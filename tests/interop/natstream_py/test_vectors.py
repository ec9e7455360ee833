"""All vectors against this implementation: python -m unittest test_vectors"""

import unittest
from typing import Any, Dict, List, Optional

import header
import wire
from exchange import CallerReplay, ResponderReplay
from items import Budget, ItemReader
from peer import Incoming, classify, is_mapped, is_usable
from vectors import load, unhex


def fields_of(frame: wire.Frame) -> Dict[str, Any]:
    """A frame in the notation of the vectors."""
    names = {wire.Unit: "UNIT", wire.Beat: "BEAT", wire.Reset: "RESET", wire.State: "STATE",
             wire.Close: "CLOSE"}
    shown: Dict[str, Any] = {"kind": names.get(type(frame)), "sid": frame.sid}
    if isinstance(frame, wire.Unknown):
        shown["kind"] = frame.kind
    elif isinstance(frame, wire.Unit):
        fin: Optional[Dict[str, Any]] = None
        if frame.fin is not None:
            fin = {"code": frame.fin.code, "not_processed": frame.fin.not_processed,
                   "retryable": frame.fin.retryable,
                   "retry_after_ms": str(frame.fin.retry_after_ms), "items": str(frame.items),
                   "message": frame.fin.message, "details": frame.fin.details}
        shown.update(position=str(frame.position), fin=fin, data=frame.data)
    elif isinstance(frame, wire.Beat):
        shown.update(announce=str(frame.announce), position=str(frame.position))
    elif isinstance(frame, wire.State):
        shown.update(rewind=frame.rewind, next=str(frame.next), limit=str(frame.limit))
    elif isinstance(frame, wire.Close):
        shown.update(code=frame.code)
    return shown


def frame_of(fields: Dict[str, Any]) -> wire.Frame:
    kind, sid = fields["kind"], fields["sid"]
    if kind == "UNIT":
        fin = fields["fin"]
        status = None if fin is None else wire.Status(
            fin["code"], fin["message"], unhex(fin["details"]), fin["not_processed"],
            fin["retryable"], int(fin["retry_after_ms"]))
        return wire.Unit(sid, int(fields["position"]), unhex(fields["data"]), status,
                         0 if fin is None else int(fin["items"]))
    if kind == "BEAT":
        return wire.Beat(sid, int(fields["announce"]), int(fields["position"]))
    if kind == "STATE":
        return wire.State(sid, int(fields["next"]), int(fields["limit"]), fields["rewind"])
    if kind == "CLOSE":
        return wire.Close(sid, fields["code"])
    return wire.Reset(sid) if kind == "RESET" else wire.Unknown(sid, kind)


class Frames(unittest.TestCase):
    def test_frames(self) -> None:
        for vector in load("frames"):
            with self.subTest(vector["name"]):
                wanted = dict(vector["fields"])
                if wanted["kind"] == "UNIT":
                    wanted["data"] = unhex(wanted["data"])
                    if wanted["fin"]:
                        details = unhex(wanted["fin"]["details"])
                        wanted["fin"] = {**wanted["fin"], "details": details}
                self.assertEqual(fields_of(wire.decode(unhex(vector["hex"]))), wanted)
                if not vector.get("decode_only"):
                    self.assertEqual(wire.encode(frame_of(vector["fields"])),
                                     unhex(vector["hex"]))

    def test_malformed(self) -> None:
        for vector in load("malformed"):
            with self.subTest(vector["name"]):
                with self.assertRaises(wire.Malformed) as caught:
                    wire.decode(unhex(vector["hex"]))
                self.assertEqual(caught.exception.error, vector["error"])
                self.assertEqual(caught.exception.offset, vector["offset"])

    def test_positions(self) -> None:
        for vector in load("positions"):
            with self.subTest(vector["name"]):
                position = 0
                for size, wanted in zip(vector["data"], vector["positions"]):
                    self.assertEqual(position, int(wanted))
                    position = wire.Unit(1, position, b"x" * size).end
                self.assertEqual(position, int(vector["end"]))


class Headers(unittest.TestCase):
    def test_open(self) -> None:
        vectors = load("headers")["open"]
        for vector in vectors["valid"]:
            with self.subTest(vector["value"]):
                parsed = header.parse_open(vector["value"])
                for key in "wmhdcp":
                    wanted = vector["fields"].get(key)
                    self.assertEqual(getattr(parsed, key), None if wanted is None else int(wanted))
                if "heartbeat_ms" in vector["fields"]:
                    self.assertEqual(header.clamp_heartbeat(parsed.h or 0),
                                     vector["fields"]["heartbeat_ms"])
                if vector.get("canonical"):
                    self.assertEqual(header.write_open(parsed), vector["value"])
        for value in vectors["unsupported"]:
            with self.subTest(value), self.assertRaises(header.Unsupported):
                header.parse_open(value)
        for vector in vectors["invalid"]:
            with self.subTest(vector["value"]), self.assertRaises(header.HeaderError) as caught:
                header.parse_open(vector["value"])
            self.assertNotIsInstance(caught.exception, header.Unsupported, vector["value"])

    def test_answer(self) -> None:
        vectors = load("headers")["answer"]
        for vector in vectors["valid"]:
            with self.subTest(vector["value"]):
                parsed = header.parse_answer(vector["value"])
                wanted = vector["fields"]["r"]
                self.assertEqual(parsed.r, None if wanted is None else int(wanted))
                self.assertEqual(parsed.h, vector["fields"]["heartbeat_ms"])
                control = vector["fields"].get("c")
                self.assertEqual(parsed.c, None if control is None else int(control))
                if vector.get("canonical"):
                    self.assertEqual(header.write_answer(parsed), vector["value"])
        for vector in vectors["invalid"]:
            with self.subTest(vector["value"]), self.assertRaises(header.HeaderError):
                header.parse_answer(vector["value"])


class Items(unittest.TestCase):
    def test_valid(self) -> None:
        for vector in load("items")["valid"]:
            with self.subTest(vector["name"]):
                items = [unhex(item) for item in vector["items"]]
                reader = ItemReader(vector["max_item"], Budget(1 << 30))
                read: List[bytes] = []
                for unit in vector["units"]:
                    read += reader.read(unhex(unit))
                self.assertEqual(read, items)
                self.assertEqual(reader.missing, 0)
                replay = CallerReplay({}, max_item=vector["max_item"])
                replay.receive_all([unhex(message) for message in vector["messages"]])
                self.assertEqual(replay.items, items)
                self.assertEqual(replay.verdict()["kind"], "ended")

    def test_malformed(self) -> None:
        for vector in load("items")["malformed"]:
            with self.subTest(vector["name"]):
                replay = CallerReplay({}, max_item=vector["max_item"])
                replay.receive_all([unhex(message) for message in vector["messages"]])
                self.assertEqual(replay.items, [unhex(item) for item in vector["items"]])
                self.assertEqual(replay.verdict(), {"kind": "protocol", "what": vector["error"]})


class Peer(unittest.TestCase):
    def test_classes(self) -> None:
        for vector in load("classes"):
            with self.subTest(vector["name"]):
                message = Incoming(unhex(vector["hex"]), vector["headers"], "", vector["status"])
                self.assertEqual(classify(message), vector["class"])

    def test_subjects(self) -> None:
        for vector in load("subjects"):
            with self.subTest(vector["subject"]):
                self.assertEqual(is_usable(vector["subject"], vector["prefixes"]), vector["safe"])
                self.assertEqual(is_mapped(vector["subject"]), vector["mapped"])


class Exchanges(unittest.TestCase):
    def test_caller(self) -> None:
        for vector in load("exchanges"):
            if "caller" not in vector["roles"]:
                continue
            with self.subTest(vector["name"]):
                replay = CallerReplay(vector)
                replay.run()
                self.assertEqual(replay.problems, [])
                wanted = vector["expect"]
                self.assertEqual(replay.items, [unhex(item) for item in wanted["items"]])
                self.assertEqual(replay.verdict(), wanted["verdict"])
                if "at" in wanted:
                    self.assertEqual(replay.ended_at, wanted["at"])

    def test_responder(self) -> None:
        for vector in load("exchanges"):
            if "responder" not in vector["roles"]:
                continue
            with self.subTest(vector["name"]):
                replay = ResponderReplay(vector)
                replay.run()
                self.assertEqual(replay.problems, [])
                self.assertEqual(replay.machine.handler if replay.machine else None,
                                 vector["expect"].get("handler"))
                if "at" in vector["expect"]:
                    self.assertEqual(replay.ended_at, vector["expect"]["at"])


if __name__ == "__main__":
    unittest.main()
