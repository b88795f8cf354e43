"""The invariants of a log and of its readers, checked against what clients were told.

Each writer's requests go into one History; after the faults are over the whole log is read and
compared with it. The numbers are those of docs/delivery.md:

I1 nothing acknowledged is lost, and its id and content are what was acknowledged
I2 no id and no idempotency key is in a log twice
I3 ids are dense from 0
I4 nothing is in a log that nobody sent; what was refused is not in it, what is unknown at most once
I5 every reader sees a run of the log without a hole, in order, each event once
I6 what was sent after an acknowledgement stands behind what was acknowledged
I7 claims never go back along the log, and no two holders append under one number
I8 what is derived from a log (record, lists, index of keys) is what the log says
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from events.fence import Fence
from events.stores.opening import storage_problems
from storage.config import StorageConfig
from tests.support.payloads import Payload


@dataclass(slots=True)
class Request:
    """One event that a client asked to append, by its key, and what it was told."""

    key: str
    content: str
    sent_at: int
    acknowledged_at: int | None = None
    event_id: int | None = None
    refused: bool = False
    claim: Fence | None = None


class History:
    """The events sent to one conversation, and their answers, in the order in which they were seen.

    A request without an answer is unknown: it may be in the log once, or not.
    """

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}
        self._moment = 0

    def sent(self, key: str, content: str) -> None:
        """Note a request; a repeat under the same key is the same request."""
        self._moment += 1
        self.requests.setdefault(key, Request(key, content, self._moment))

    def acknowledged(self, key: str, event_id: int, claim: Fence | None = None) -> None:
        """Note an acknowledgement, and the claim of the loop under which the event was appended.

        Raises AssertionError when an earlier one gave another id.
        """
        self._moment += 1
        request = self.requests[key]
        assert request.event_id in {None, event_id}, (
            f"I1: {key} was acknowledged as {request.event_id} and then as {event_id}"
        )
        request.event_id, request.claim = event_id, claim
        if request.acknowledged_at is None:
            request.acknowledged_at = self._moment

    def refused(self, key: str) -> None:
        """Note that the request was certainly not carried out."""
        self.requests[key].refused = True

    @property
    def acknowledgements(self) -> int:
        """Return how many requests were acknowledged."""
        return sum(one.event_id is not None for one in self.requests.values())

    def check(self, log: Sequence[Payload], ours: Callable[[str], bool] = lambda _: True) -> None:
        """Compare the whole log with the history: I1 to I4, I6, I7. Raises AssertionError.

        `ours` tells the keys of this history's clients from those of others.
        """
        assert [one["id"] for one in log] == list(range(len(log))), "I3: ids are not dense"
        keyed = [(one["client_id"], one) for one in log if one.get("client_id") is not None]
        found = dict(keyed)
        assert len(found) == len(keyed), "I2: a key is in the log twice"
        for key, event in keyed:
            if not ours(key):
                continue
            assert key in self.requests, f"I4: nobody sent {key}"
            assert not self.requests[key].refused, f"I4: {key} was refused and is in the log"
            assert event["message"] == self.requests[key].content, f"I1: {key} says something else"
        for request in self.requests.values():
            if request.event_id is not None:
                assert request.key in found, f"I1: {request.key} is lost"
                assert found[request.key]["id"] == request.event_id, f"I1: {request.key} has moved"
        self._check_order(found)
        self._check_claims()

    def _check_order(self, found: dict[str, Payload]) -> None:
        known = [one for one in self.requests.values() if one.key in found]
        moments = sorted(
            [(one.sent_at, "sent", one) for one in known]
            + [
                (one.acknowledged_at, "acknowledged", one)
                for one in known
                if one.acknowledged_at is not None
            ],
            key=lambda one: one[0],
        )
        newest = -1
        for _, what, request in moments:
            event_id = found[request.key]["id"]
            if what == "sent":
                assert event_id > newest, f"I6: {request.key} stands before what came earlier"
            else:
                newest = max(newest, event_id)

    def _check_claims(self) -> None:
        claimed = sorted(
            (one.event_id, one.claim)
            for one in self.requests.values()
            if one.claim is not None and one.event_id is not None
        )
        for (_, before), (event_id, claim) in pairwise(claimed):
            told = f"I7: {event_id} was appended under {claim}, behind {before}"
            assert claim.number >= before.number, told
            if claim.number == before.number:
                assert claim == before, told


def check_derived(config: StorageConfig) -> None:
    """Check what is derived from the logs of a storage: I8. Block. Raises AssertionError."""
    problems = storage_problems(config)
    assert not problems, f"I8: {problems}"


def check_view(ids: Iterable[int], after: int, log_length: int, *, complete: bool = True) -> None:
    """Check what one reader saw behind the id `after`: I5. Raises AssertionError."""
    seen = list(ids)
    expected = list(range(after + 1, after + 1 + len(seen)))
    assert seen == expected, f"I5: {seen} is not a run behind {after}"
    assert not seen or seen[-1] < log_length, f"I5: {seen[-1]} is not in the log"
    if complete:
        assert after + len(seen) == log_length - 1, f"I5: the reader stopped at {after + len(seen)}"
