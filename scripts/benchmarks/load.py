"""The load generator: a process of its own; reads its job and writes its result as JSON."""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from benchmarks.arrivals import arrivals
from benchmarks.clients import (
    BenchError,
    Client,
    Control,
    Receiver,
    any_problem,
    connect_all,
    raise_problems,
    until,
)
from benchmarks.load_deltas import deltas
from benchmarks.load_latency import echo, slow
from benchmarks.load_models import models
from benchmarks.load_receive import receive
from benchmarks.machine import Meter

Job = dict[str, Any]


async def fanout(job: Job) -> dict[str, float]:
    """Keep `window` events in flight to `clients` clients for `seconds`.

    The next events are asked for when the client that joined last has received earlier ones.
    """
    control = await Control.open(job["control"])
    (conversation,) = await control.ask("new")
    port, count = job["port"], job["clients"]
    clients = await connect_all(port, [conversation] * (count - 1), Receiver)
    producer = Producer(control)
    clients += await connect_all(port, [conversation], lambda: Receiver(producer.received))
    first = await control.ask("produce", conversation=conversation)
    for client in clients:
        client.begin(first)

    async def run(seconds: float, least: int) -> int:
        producer.begin(job["window"], seconds, least)
        await asyncio.wait_for(producer.done.wait(), seconds + 30)
        due = first + producer.produced
        await until(
            lambda: all(client.expected == due for client in clients) or any_problem(clients),
            f"{count} clients had {due} events",
        )
        return producer.produced

    warmed = await run(0.3, 50)
    gc.collect()
    gc.disable()
    meter = Meter(job["pid"])
    events = await run(job["seconds"], 20) - warmed
    figures = meter.stop()
    raise_problems(clients)
    (committed,) = await control.ask("next_ids", conversations=[conversation])
    if committed != first + warmed + events:
        raise BenchError(f"{committed - first} committed, {warmed + events} delivered")
    for client in clients:
        client.close()
    messages = events * count
    return figures | {
        "events": events,
        "cpu_per_message_us": figures["server_cpu"] / messages * 1e6,
        "messages_per_s": messages / figures["wall"],
    }


class Producer:
    """Gives credits as echoes come back, all that came in one turn of the loop together."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._echoes = 0
        self._deadline = 0.0
        self._least = 0
        self._received = 0
        self.produced = 0
        self.done = asyncio.Event()

    def begin(self, window: int, seconds: float, least: int) -> None:
        """Fill the window; go on for that long and at least for so many events."""
        self.done.clear()
        self._deadline = time.perf_counter() + seconds
        self._least = self.produced + least
        self.produced += window
        self._control.credit(window)

    def received(self) -> None:
        """The last client has got an event."""
        self._received += 1
        if not self._echoes:
            asyncio.get_running_loop().call_soon(self._give)
        self._echoes += 1

    def _give(self) -> None:
        credit, self._echoes = self._echoes, 0
        if time.perf_counter() < self._deadline or self.produced < self._least:
            self.produced += credit
            self._control.credit(credit)
        elif self._received == self.produced:
            self.done.set()


async def idle(job: Job) -> dict[str, float]:
    """The server's memory per connection that does nothing; each to its conversation if asked.

    As many are connected before, which use up what the server had freed at its start.
    """
    control = await Control.open(job["control"])
    count = job["clients"]
    own = job["own_conversation"]
    names = await control.ask("new", count=2 * count if own else 1)
    names = names if own else names * 2 * count
    clients = await connect_all(job["port"], names[:count], Client)
    await asyncio.sleep(0.5)
    before = await control.ask("figures")
    clients += await connect_all(job["port"], names[count:], Client)
    await asyncio.sleep(0.5)
    after = await control.ask("figures")
    raise_problems(clients)
    return {
        "bytes_per_connection": (after["rss"] - before["rss"]) / count,
        "tasks_per_connection": (after.get("tasks", 0) - before.get("tasks", 0)) / count,
        "threads": after.get("threads", 0) - before.get("threads", 0),
        "own_share": 0.0,
    }


MODES: dict[str, Callable[[Job], Coroutine[Any, Any, dict[str, Any]]]] = {
    "fanout": fanout,
    "arrivals": arrivals,
    "deltas": deltas,
    "idle": idle,
    "models": models,
    "receive": receive,
    "slow": slow,
    "echo": echo,
}


def main() -> None:
    """Do the job on standard input."""
    job: Job = json.load(sys.stdin)
    try:
        result: dict[str, Any] = uvloop.run(MODES[job["mode"]](job))
    except (BenchError, TimeoutError, OSError) as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
