"""Misbehaving agents beside good conversations, at random, in one server life after the other."""

import asyncio
import gc
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.support.clients import message
from tests.support.misbehaving import CALLBACKS, ENDLESS, FAULTS, GOOD, Plan
from tests.support.misbehaving_run import CLASSES, begin, carry_out, ends_in_time, hold_up
from tests.support.raw_client import RawClient, raw_client
from tests.support.remote import Remote, remote
from tests.support.servers import ServerProcess, server_process

LIFE = 100
"""Plans of one server's life."""
GOOD_CLIENTS = 20
SECONDS_BETWEEN = 0.25
"""Of one good client's messages."""
PLANS_PER_SECOND = 12.0
CALM_SHARE = 4
"""The factor by which a calm phase has fewer well-behaved conversations than plans follow it."""
UNDER_WAY = 8
"""Plans that are at work when a server is stopped."""
SHUTDOWN_SECONDS = 4.0
ACK_SECONDS = 20.0


@dataclass(slots=True)
class Figures:
    """99th percentiles of the good ones' acknowledgements in ms, and how servers ended."""

    plans: int = 0
    problems: list[str] = field(default_factory=list)
    calm: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    acknowledged: int = 0
    refused: int = 0
    stops: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.beside) / statistics.median(self.calm)

    def __str__(self) -> str:
        pairs = ", ".join(
            f"{calm:.1f}/{beside:.1f}" for calm, beside in zip(self.calm, self.beside, strict=True)
        )
        codes = ", ".join(f"{code}: {times}" for code, times in sorted(self.codes.items()))
        return (
            f"{self.plans} plans, {len(self.problems)} not as they should be; p99 of good ones in ms,"
            f" beside good/bad: {pairs}, ratio of the medians {self.ratio:.2f};"
            f" {self.acknowledged} acknowledged, {self.refused} refused;"
            f" {len(self.stops)} stops within {max(self.stops):.2f} s"
            f" (shutdown_seconds {SHUTDOWN_SECONDS:g}), exit codes {codes}"
        )


async def run_misbehaving(folder: Path, seed: int, plans: int) -> Figures:
    """Carry so many random plans out. What is wrong is in the figures."""
    choices = Random(seed)  # noqa: S311 - not for secrets
    figures, numbers = Figures(), itertools.count()
    while figures.plans < plans:
        life = min(LIFE, plans - figures.plans)
        data_dir = folder / str(figures.plans)
        await _live(
            data_dir, [_random_plan(choices) for _ in range(life)], choices, numbers, figures
        )
        print(f"{figures}", flush=True)  # noqa: T201 - a long run shows how far it is
    return figures


def _random_plan(choices: Random) -> Plan:
    return Plan(choices.choice(CALLBACKS), choices.choice(FAULTS))


async def _live(
    data_dir: Path,
    plans: Sequence[Plan],
    choices: Random,
    numbers: Iterator[int],
    figures: Figures,
) -> None:
    environment = CLASSES | {"PARLEY_SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS)}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(server_process(data_dir, environment=environment))
        api = await stack.enter_async_context(remote(server.url))
        phase = _Phase(api, server, numbers, figures)
        conversations = await api.create_many(GOOD_CLIENTS)
        clients = [
            await stack.enter_async_context(raw_client(server.url, one)) for one in conversations
        ]
        for client in clients:
            await client.connect()
        gc.disable()  # a pass over what all clients hold would count as the server's delay
        try:
            calm = [Plan(GOOD, "nothing")] * max(1, len(plans) // CALM_SHARE)
            await phase.run(
                calm[:CALM_SHARE], clients, choices
            )  # what is made at first use is there
            figures.calm.append(await phase.run(calm, clients, choices))
            measured = [one for one in plans if not one.blocks]
            figures.beside.append(await phase.run(measured, clients, choices))
        finally:
            gc.enable()
        await phase.run([one for one in plans if one.blocks], clients, choices)
        figures.plans += len(plans)
        await _stop(server, api, choices, numbers, figures)


class _Phase:
    """Plans carried out at a pace, and good clients that talk meanwhile."""

    def __init__(
        self, api: Remote, server: ServerProcess, numbers: Iterator[int], figures: Figures
    ) -> None:
        self._api = api
        self._server = server
        self._numbers = numbers
        self._figures = figures

    async def run(
        self, plans: Sequence[Plan], clients: Sequence[RawClient], choices: Random
    ) -> float:
        """Carry plans out; the 99th percentile of how long acknowledgements took, in ms."""
        times: list[float] = []
        over = asyncio.Event()
        talking = [
            asyncio.create_task(self._talk(client, number / len(clients), over, times))
            for number, client in enumerate(clients)
        ]
        work = []
        for plan in plans:
            number = next(self._numbers)
            work.append(asyncio.create_task(carry_out(self._api, self._server.url, plan, number)))
            await asyncio.sleep(choices.expovariate(PLANS_PER_SECOND))
        found = await asyncio.gather(*work)
        self._figures.problems += [problem for problem in found if problem is not None]
        over.set()
        await asyncio.gather(*talking)
        return statistics.quantiles(times, n=100)[98] * 1000

    async def _talk(
        self, client: RawClient, phase: float, over: asyncio.Event, times: list[float]
    ) -> None:
        await asyncio.sleep(SECONDS_BETWEEN * phase)
        while not over.is_set():
            begun = time.perf_counter()
            async with asyncio.timeout(ACK_SECONDS):
                told = await client.send(message("/quiet"))
            took = time.perf_counter() - begun
            times.append(took)
            self._figures.acknowledged += told["status"] == "ok"
            self._figures.refused += told["status"] != "ok"
            await asyncio.sleep(max(0.0, SECONDS_BETWEEN - took))


async def _stop(
    server: ServerProcess,
    api: Remote,
    choices: Random,
    numbers: Iterator[int],
    figures: Figures,
) -> None:
    """Stop a server with agents at work, every other time with one that holds it up."""
    plans = [_random_plan(choices) for _ in range(UNDER_WAY)]
    await asyncio.gather(*(begin(api, server.url, one, next(numbers)) for one in plans))
    held = choices.random() < 1 / 2
    if held:
        await hold_up(
            api, server, Plan(choices.choice(CALLBACKS[:5]), choices.choice(list(ENDLESS)))
        )
    code, took = await ends_in_time(server)
    figures.stops.append(took)
    figures.codes[code] += 1
    if code != int(held):
        figures.problems.append(f"exit code {code}, held up: {held}")
