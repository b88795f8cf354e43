"""The official client through a line that is cut over and over, while events flow."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

from events.event import AgentState
from tests.support.checker import Counts, DeliveryChecker, Received
from tests.support.clients import message
from tests.support.cutting_proxy import CuttingProxy, cutting
from tests.support.official import Joining, OfficialClient, official_client
from tests.support.payloads import Payload, is_answer, is_error_state, is_state
from tests.support.remote import Remote, as_stored, remote
from tests.support.seeds import choices
from tests.support.servers import server_process

SETTINGS = {"PARLEY_MAX_ITERATIONS": "1000000"}
BACKOFF = {"reconnectionDelay": 10, "reconnectionDelayMax": 60, "timeout": 2000}
OUTSTANDING = 4
QUIET_EVERY = 25
LEAST_TURNS = 200
"""So often something is written, however fast the cuts are made."""
QUIET_SECONDS = 0.6
ERROR, AWAITING = AgentState.ERROR, AgentState.AWAITING_USER_INPUT
CLOCK_SECONDS = 0.001
"""The precision of Node's clock."""


@dataclass(frozen=True, slots=True)
class CutFigures:
    """Figures of a run; `counts` as the checker counts."""

    seed: int
    cuts: int
    in_handshake: int
    acknowledged: int
    resent: int
    known: int
    late_errors: int
    counts: Counts

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: cuts {self.cuts} ({self.in_handshake} before CONNECT),"
            f" acknowledged {self.acknowledged} (sent again {self.resent}, of these known"
            f" {self.known}), {self.counts}, of these late {self.late_errors}"
        )


async def run_cuts(data_dir: Path, seed: int, cuts: int, storage: str = "sqlite") -> CutFigures:
    """Cut so often, then compare what came with the log. Raises AssertionError."""
    async with (
        server_process(data_dir, "--storage", storage, environment=SETTINGS) as server,
        remote(server.url) as api,
        cutting(server.port, choices(seed), cuts) as proxy,
        official_client() as client,
    ):
        conversation_id = await api.create("/slow 50 2")
        await client.join(proxy.url, conversation_id, **BACKOFF)
        talking = asyncio.Event()
        sent = asyncio.create_task(_send(client, proxy, talking))
        await _write(api, conversation_id, choices(seed), proxy, talking)
        keys = await sent
        log = await _settle(api, client, conversation_id)
    _check_answers(log, keys, client)
    _bound_joinings(log, client)
    counts = Counts()
    DeliveryChecker(as_stored(log), counts).check(client.connections)
    answers = client.answers.values()
    return CutFigures(
        seed=seed,
        cuts=proxy.made,
        in_handshake=proxy.connections - len(client.connections),
        acknowledged=len(answers),
        resent=sum(answer.tries > 1 for answer in answers),
        known=sum(answer.body["duplicate"] for answer in answers),
        late_errors=sum(_late_errors(log, one) for one in client.connections),
        counts=counts,
    )


async def _pause(proxy: CuttingProxy, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await proxy.all_made.wait()


async def _send(
    client: OfficialClient, proxy: CuttingProxy, talking: asyncio.Event
) -> dict[int, str]:
    """Send messages through the line, a few at a time; answer number -> key."""
    keys: dict[int, str] = {}
    while not proxy.all_made.is_set():
        await talking.wait()
        key = f"official-{len(keys)}"
        number = await client.begin_send(message(f"message {key}") | {"client_id": key}, seconds=2)
        keys[number] = key
        await client.until(lambda: len(keys) - len(client.answers) < OUTSTANDING)
        await _pause(proxy, 0.02)
    await client.until(lambda: len(client.answers) == len(keys))
    return keys


async def _write(
    api: Remote,
    conversation_id: str,
    random: Random,
    proxy: CuttingProxy,
    talking: asyncio.Event,
) -> None:
    """Write past the line, so that there is always something to replay or to hear.

    Now and then nobody says anything after a failure: a state `error` stays the newest.
    """
    lines = ["plain text", "/think hard", "/run echo hi", "/big 4000", "/slow 8 8"]
    for turn in count():
        if turn % QUIET_EVERY == 0:
            talking.clear()
            await api.post(conversation_id, message("/error planned"))
            await _pause(proxy, QUIET_SECONDS)
            talking.set()
        if proxy.all_made.is_set() and turn >= LEAST_TURNS:
            return
        text = "\n".join(random.choices([*lines, "/error planned"], k=random.randint(1, 3)))
        await api.post(conversation_id, message(text))
        await _pause(proxy, random.uniform(0.02, 0.12))


async def _settle(api: Remote, client: OfficialClient, conversation_id: str) -> list[Payload]:
    """Go on until the agent has answered everything and the client knows it; the log then.

    A state alone may be that of an earlier turn, behind which the agent goes on.
    """
    for number in count():
        text = f"go on {number}"
        last = int((await api.post(conversation_id, message(text)))["id"])
        await client.until(partial(_ends, client, text, last))
        for answer in _answers(client, text):
            await client.until(partial(_in, client, AWAITING, answer["id"]))
            log = await api.log(conversation_id)
            await client.until(partial(client.has, log[-1]["id"]))
            return log
    raise AssertionError


def _ends(client: OfficialClient, text: str, after: int) -> bool:
    return bool(_answers(client, text)) or _in(client, ERROR, after)


def _answers(client: OfficialClient, text: str) -> list[Payload]:
    answer = f"You said: {text}"
    return [one for one in client.payloads if is_answer(one) and one["message"] == answer]


def _in(client: OfficialClient, state: AgentState, after: int) -> bool:
    return any(
        is_state(one) and one["extras"]["agent_state"] == state and one["id"] > after
        for one in client.payloads
    )


def _check_answers(log: Sequence[Payload], keys: dict[int, str], client: OfficialClient) -> None:
    places = {one["client_id"]: one["id"] for one in log if "client_id" in one}
    times = Counter(one["client_id"] for one in log if "client_id" in one)
    for number, key in keys.items():
        body = client.answers[number].body
        assert body["status"] == "ok", body
        assert times[key] == 1, f"{key} is {times[key]} times in the log"
        assert body["id"] == places[key], f"{key} was acknowledged as {body}"
    assert sum(times.values()) == len(keys)


def _bound_joinings(log: Sequence[Payload], client: OfficialClient) -> None:
    """Events made after a client was told that it is connected are live for it."""
    moments = [datetime.fromisoformat(one["timestamp"]).timestamp() for one in log]

    def first_after(joining: Joining) -> int:
        at = joining.at + CLOCK_SECONDS
        return next((place for place, moment in enumerate(moments) if moment > at), len(log))

    for received, joining in zip(client.connections, client.joinings, strict=True):
        received.joined_before = first_after(joining)


def _late_errors(log: Sequence[Payload], received: Received) -> int:
    """States `error` that came behind higher ids: each is the newest state up to there."""
    late = 0
    newest = received.cursor
    for payload in received.events:
        event_id = payload["id"]
        if event_id < newest and is_error_state(payload):
            late += 1
            between = [one["id"] for one in log[event_id + 1 : newest + 1] if is_state(one)]
            assert not between, f"the state {event_id} came after the newer {between}"
        newest = max(newest, event_id)
    return late
