"""Faults of an object store under load: requests lost, unanswered, late, slow, refused; the server killed."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from storage.files.cloud import CloudFileStore
from tests.support.append_load import Load
from tests.support.backends import cloud_files, open_over
from tests.support.clients import joined
from tests.support.postgres_rounds import is_ready
from tests.support.remote import Remote, server_over
from tests.support.report import counted
from tests.support.s3 import S3Server, cloud_settings, objects_of, s3_server
from tests.support.s3_proxy import Fault, Request, S3Proxy, s3_proxy
from tests.support.seeds import choices
from tests.support.waiting import until

SHARE = 0.3
"""Of the requests that meet a fault."""
FAULTS = tuple(one for one in Fault if one is not Fault.NONE)
ATTEMPT_SECONDS = 0.5
SLOW_SECONDS = 0.7
DELIVERY_SECONDS = 0.1
DEADLINE_SECONDS = 3.0
APPEND_SECONDS = 2.0
ACKNOWLEDGED = 60
"""Acknowledgements between two kills."""
RUN_SECONDS = 1_200.0
KILL_SECONDS = 60.0
"""The longest that one kill may take, from its load to the end of the store's return: a hang takes as long."""


@dataclass(slots=True)
class FaultFigures:
    """Figures of a run; the seed makes it again."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    late_refused: int = 0
    """Late requests whose condition failed."""
    late_taken: int = 0
    longest_seconds: float = 0.0
    """From the first put that a killed store took until the server was ready and took an event."""

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {counted(self.faults)}; acknowledged {self.acknowledged}, refused"
            f" {self.refused}, unknown {self.unknown}; late requests: {self.late_taken} taken,"
            f" {self.late_refused} refused; 0 lost, 0 twice, 0 gaps"
            + (
                f"; well again after {self.longest_seconds:.1f} s at most"
                if self.longest_seconds
                else ""
            )
        )


class Weather:
    """Chooses what happens to each request, until so many met a fault."""

    def __init__(self, random: Random, faults: int, figures: FaultFigures) -> None:
        self.over = asyncio.Event()
        self._random = random
        self._left = faults
        self._figures = figures

    def choose(self, request: Request) -> Fault:
        """Return what happens to a request; a read is never late, as nobody waits for it."""
        if self._left == 0 or self._random.random() >= SHARE:
            return Fault.NONE
        fault = self._random.choice(FAULTS)
        if fault is Fault.LATE and not request.writes:
            fault = Fault.LOST
        self._left -= 1
        self._figures.faults[fault] += 1
        if self._left == 0:
            self.over.set()
        return fault


async def run_cloud_faults(folder: Path, seed: int, faults: int) -> FaultFigures:
    """Append under load until so many requests met a fault, and compare. Raises AssertionError."""
    figures = FaultFigures(seed)
    load = Load()
    weather = Weather(choices(seed), faults, figures)
    async with s3_proxy(s3_server().port) as proxy, asyncio.timeout(RUN_SECONDS):
        files = CloudFileStore(
            objects_of(folder, port=proxy.port, attempt_seconds=ATTEMPT_SECONDS),
            deadline_seconds=DEADLINE_SECONDS,
            late_seconds=1.0,
        )
        async with open_over(files, folder) as opened:
            proxy.slow_seconds = SLOW_SECONDS
            proxy.choose = weather.choose
            delivery = asyncio.create_task(_deliver(proxy, figures))
            await load.run(opened.events, lambda: _until_over(weather, load))
            figures.unknown = opened.events.counters.appends_unknown
            delivery.cancel()
            await asyncio.wait([delivery])
            await _deliver_all(proxy, figures)
    figures.acknowledged, figures.refused = load.acknowledged, load.refused
    await _compare(folder, load)
    return figures


async def _until_over(weather: Weather, load: Load) -> None:
    await weather.over.wait()
    await load.more(1)


async def _deliver(proxy: S3Proxy, figures: FaultFigures) -> None:
    while True:
        await asyncio.sleep(DELIVERY_SECONDS)
        await _deliver_all(proxy, figures)


async def _deliver_all(proxy: S3Proxy, figures: FaultFigures) -> None:
    for status in await proxy.deliver():
        if status == 412:
            figures.late_refused += 1
        else:
            figures.late_taken += 1


async def _compare(folder: Path, load: Load) -> None:
    async with open_over(cloud_files(folder), folder) as opened:
        await load.check(opened.events)


async def run_cloud_kills(folder: Path, seed: int, kills: int) -> FaultFigures:
    """Kill the S3 server under load so often, and compare. Raises AssertionError."""
    figures = FaultFigures(seed)
    load = Load()
    async with asyncio.timeout(kills * KILL_SECONDS):
        files = CloudFileStore(objects_of(folder))
        async with open_over(files, folder) as opened:
            await load.run(opened.events, lambda: _kill(s3_server(), load, kills, figures))
            figures.unknown = opened.events.counters.appends_unknown
    figures.acknowledged, figures.refused = load.acknowledged, load.refused
    await _compare(folder, load)
    return figures


async def _kill(server: S3Server, load: Load, kills: int, figures: FaultFigures) -> None:
    for _ in range(kills):
        await load.more(ACKNOWLEDGED)
        load.up.clear()
        await asyncio.to_thread(server.kill)
        server.launch()
        await asyncio.to_thread(server.wait)
        load.up.set()
        figures.faults["kills"] += 1
    await load.more(ACKNOWLEDGED)


async def run_cloud_returns(folder: Path, kills: int) -> FaultFigures:
    """Kill the S3 server under a server so often; it goes on by itself. Raises AssertionError."""
    figures, store = FaultFigures(0), s3_server()
    settings = {"append_deadline_seconds": APPEND_SECONDS, **cloud_settings(folder)}
    async with server_over(folder, "cloud", **settings) as (server, api):
        conversation_id = await api.create()
        async with joined(server.url, conversation_id) as client:
            for number in range(kills):
                await asyncio.to_thread(store.kill)
                refused = await api.say(conversation_id, "x", f"key {number}")
                assert refused.status_code == 503, refused.text
                await until(lambda: _is_away(api))
                store.launch()
                await asyncio.to_thread(store.wait)
                await objects_of(folder, "plain").put(str(number), b"", None)
                began = time.monotonic()
                await until(lambda: is_ready(api))
                # Under the key of what was refused, so that it is in the log once.
                assert (await api.say(conversation_id, "x", f"key {number}")).status_code == 200
                figures.longest_seconds = max(figures.longest_seconds, time.monotonic() - began)
                figures.faults["kills"] += 1
                figures.refused += 1
                figures.acknowledged += 1
            log = await api.log(conversation_id)
            assert client.disconnects == []
    assert [one["id"] for one in log] == list(range(len(log)))
    keys = [one["client_id"] for one in log if "client_id" in one]
    assert keys == [f"key {number}" for number in range(kills)]
    return figures


async def _is_away(api: Remote) -> bool:
    return (await api.client.get("/ready")).status_code == 503
