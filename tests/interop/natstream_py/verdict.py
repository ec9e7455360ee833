"""The one result of an attempt (rule 52)."""

from dataclasses import dataclass
from typing import Any, Dict, Optional

from wire import Status, code_name


@dataclass(frozen=True)
class Verdict:
    """`kind` is ended, failed, refused, no_responders, unanswered, timed_out, cancelled or lost.
    `detail` is the cause of lost, and the clock of timed_out; `what` says more about a protocol
    error, for people."""

    kind: str
    items: int = 0
    status: Optional[Status] = None
    detail: str = ""
    what: str = ""

    def as_json(self) -> Dict[str, Any]:
        shown: Dict[str, Any] = {"verdict": self.kind, "items": self.items}
        if self.status is not None:
            if self.status.code:
                shown["code"] = self.status.code
                shown["name"] = code_name(self.status.code)
                shown["message"] = self.status.message
                shown["not_processed"] = self.status.not_processed
                shown["retryable"] = self.status.retryable
                shown["retry_after_ms"] = self.status.retry_after_ms
            shown["details"] = self.status.details.decode("utf-8", "replace")
        if self.detail:
            shown["cause" if self.kind == "lost" else "clock"] = self.detail
        if self.what:
            shown["what"] = self.what
        return shown
