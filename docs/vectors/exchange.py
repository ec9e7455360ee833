"""The notation of whole exchanges: steps and verdicts."""

from wire import *

SID = 0x5EED0001
OTHER = 0x0BADCAFE
OPEN = "1;w=65536;m=16777216;h=5000"
ANSWER = "1;r=2097152;h=5000"
W = 65536
NOBODY = {"from": "server", "status": 503, "control": False, "headers": {}, "hex": ""}


class Exchange:
    def __init__(self, name, about, rules, open=OPEN, roles=("caller", "responder"), mapped=False, **settings):
        self.head = {
            "name": name,
            "about": about,
            "rules": list(rules),
            "roles": list(roles),
            "mapped": mapped,
            "sid": SID,
            "settings": {"max_window": W, **settings},
        }
        self.steps = []
        self.position = 0
        self.message(0, "caller", "service", b"go", headers={"Natstream": open}, control=True)

    def add(self, at, **step):
        self.steps.append({"at": at, **step})
        return self

    def message(self, at, sender, to, payload, headers=None, control=False, lost=False, alias=None, about=None, own_text=False):
        step = {"from": sender, "to": to, "control": control, "headers": headers, "hex": text(payload)}
        if own_text:
            step["own_text"] = True
        if alias is not None:
            step["alias"] = alias
        if lost:
            step["lost"] = True
        if about:
            step["about"] = about
        return self.add(at, **step)

    # The responder's side.

    def sends(self, at, *contents):
        return self.add(at, handler={"sends": [text(content) for content in contents]})

    def ends(self, at, *contents, how="ends", **end):
        flags = end.get("flags", 0)
        fields = {
            "code": end.get("code", 0),
            "not_processed": bool(flags & NOT_PROCESSED),
            "retryable": bool(flags & RETRYABLE),
            "retry_after_ms": str(end.get("retry_after", 0)),
            "message": end.get("message", ""),
            "details": text(end.get("details", b"")),
        }
        return self.add(at, handler={"sends": [text(content) for content in contents], how: fields})

    def unit(self, at, data=b"", fin=None, first=False, **more):
        """The next unit; `first`: the stream is not confirmed, so header and control subject go along."""
        payload = unit(SID, self.position, data, fin)
        self.position = after(self.position, data)
        return self.responder(at, payload, first, **more)

    def responder(self, at, payload, first=False, control=None, failure=None, **more):
        headers = {"Natstream": ANSWER} if first else None
        if failure is not None:
            code, message = failure
            headers = {**(headers or {}), **service_error(code, message)}
        return self.message(at, "responder", "caller", payload, headers, first if control is None else control, **more)

    # The caller's side.

    def state(self, at, next, limit, rewind=False, **more):
        control = not self.head["mapped"]
        return self.message(at, "caller", "responder", state(SID, next, limit, rewind), control=control, **more)

    def close(self, at, code, **more):
        return self.message(at, "caller", "responder", close(SID, code), **more)

    def done(self, verdict, contents=(), handler=None, at=None):
        """`handler`: what the responder's handler learns; `at`: when the verdict falls, if no message brings it."""
        expect = {"items": [text(content) for content in contents], "verdict": verdict}
        if at is not None:
            expect["at"] = at
        if handler:
            expect["handler"] = handler
        return {**self.head, "steps": self.steps, "expect": expect}


def service_error(code, message=""):
    name = CODES[code] + (": " + message if message else "")
    return {"Nats-Service-Error": name, "Nats-Service-Error-Code": str(code)}


def ended(count, trailers=b""):
    return {"kind": "ended", "items": str(count), "trailers": text(trailers)}


def failed(code, message="", flags=0, kind="failed", details=b"", retry_after=0):
    return {
        "kind": kind,
        "code": code,
        "message": message,
        "details": text(details),
        "not_processed": bool(flags & NOT_PROCESSED),
        "retryable": bool(flags & RETRYABLE),
        "retry_after_ms": str(retry_after),
    }


def lost(count, cause):
    return {"kind": "lost", "items": str(count), "cause": cause}


def protocol(what):
    return {"kind": "protocol", "what": what}


def begun(name, about, rules, **more):
    """A stream whose first item was sent at 10 ms and whose confirmation arrived at 35 ms; both sides stand at 260."""
    exchange = Exchange(name, about, rules, **more)
    data = items(b"one")
    exchange.sends(10, b"one").unit(10, data, first=True)
    return exchange.state(35, 260, 260 + W)
