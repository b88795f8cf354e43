"""Agents that ask a model: how soon its first token is seen, and a stop closes its connection."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks import servers
from benchmarks.rows import Context, Figures, Target, pick
from benchmarks.servers import Contender

TURNS, TURNS_QUICK = 20, 5
AGENTS = {"coroutine": "ModelAgent", "thread": "BlockingModelAgent"}
FIRST = Target(20, 10, on_ratio=False)
STOPS = {
    "coroutine": Target(100, 20, on_ratio=False),
    "thread": Target(300, 100, on_ratio=False),
}
SETTINGS = """
agent_class = "benchmarks.model_agents:{agent}"
max_concurrent_conversations = 1000
"""
BARE = "a bare connection"


def models(context: Context) -> None:
    """First characters and stops, of an agent in the event loop and of one in a thread."""
    count = TURNS_QUICK if context.quick else TURNS
    context.say("agents that ask a model: s at p50 to the first character, to the end of a stop")
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], Figures]] = {}
        for name, agent in AGENTS.items():
            folder = context.folder / f"models-{name}"
            folder.mkdir()
            (folder / "parley.toml").write_text(SETTINGS.format(agent=agent))
            server, _ = stack.enter_context(servers.parley(folder))
            contenders[name] = partial(_once, server, count)
        # Any process will do: it asks nothing of the server.
        contenders["bare"] = partial(_once, server, count, bare=True)
        found = context.interleave(contenders)
    for name, stop in STOPS.items():
        for figure, text, target in (
            ("first", "first character behind the model's first token, p50", FIRST),
            ("stop", "stop until the model's connection is closed, p50", stop),
        ):
            ours, bare = (
                [1000 * one for one in pick(found[which], figure)] for which in (name, "bare")
            )
            context.add(f"{text}, {name}", "ms", ours, bare, against=BARE, target=target)


def _once(contender: Contender, count: int, **job: Any) -> Figures:
    result = contender.load("models", count=count, **job)
    return {figure: result[figure] for figure in ("first", "stop")}
