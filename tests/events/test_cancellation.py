"""Callers cancelled at any moment: what was accepted is in the log once, and everybody sees it."""

import asyncio
from collections import Counter
from random import Random

import pytest

from events.conformance.records import records
from events.errors import AppendFailed
from tests.support.backends import open_event_store
from tests.support.faulty_store import (
    FaultyEventStore,
    Overtaken,
    fails,
    passes,
    unknown_after,
    unknown_before,
)
from tests.support.quick_loop import LOOPS
from tests.support.streams import USER, Recorder, log_of, message, open_stream, texts

SEEDS = {"memory": 500, "files": 500, "sqlite": 100, "local": 100}
CALLERS = 12
ATTEMPTS = 3
AFTER = (0, 0, 0, *range(ATTEMPTS + 1))
BOUND_SECONDS = 3_000.0
OVERTAKEN = Overtaken(lambda first_id: records(first_id, 1, "foreign"))
FAULTS = (passes, passes, fails, unknown_before, unknown_after, OVERTAKEN)


class Trial:
    """One seed: callers that append one after the other and are cancelled after some turns."""

    def __init__(self, seed, inner):
        self.random = Random(seed)  # noqa: S311 - a seed makes the trial repeatable
        self.store = FaultyEventStore(inner, [self.fault() for _ in range(12)])
        self.accepted: list[str] = []
        self.refused: set[str] = set()
        self.acknowledged: dict[str, int] = {}
        self.cancelled = 0
        self.attempted = [asyncio.Event() for _ in range(ATTEMPTS)]

    def fault(self):
        steps, then = self.random.randrange(4), self.random.choice(FAULTS)

        async def slowly(attempt):
            next((one for one in self.attempted if not one.is_set()), asyncio.Event()).set()
            for _ in range(steps):
                await asyncio.sleep(0)
            if then is fails:
                self.refused.update(texts(attempt.events))
            await then(attempt)
            for _ in range(steps):
                await asyncio.sleep(0)

        return slowly

    async def call(self, stream, name):
        for number in range(self.random.randrange(1, 4)):
            text = f"{name}.{number}"
            key = text if self.random.random() < 0.3 else None
            self.accepted.append(text)  # no await before the stream has taken it
            try:
                appended = await stream.append(message(text), USER, client_id=key)
            except AppendFailed:
                assert text in self.refused
            else:
                self.acknowledged[text] = appended.id

    async def cancel(self, caller, attempts, turns):
        """Some turns of the loop after so many attempts: a store may take its time for one."""
        if attempts:
            await self.attempted[attempts - 1].wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        self.cancelled += caller.cancel()

    async def run(self):
        stream = await open_stream(
            self.store,
            subscription_queue=self.random.choice((1, 5, 1024)),
            append_seconds=BOUND_SECONDS,
        )
        recorder = Recorder()
        stream.subscribe("test", recorder)
        callers = [asyncio.ensure_future(self.call(stream, name)) for name in range(CALLERS)]
        cancelling = [
            asyncio.ensure_future(
                self.cancel(caller, self.random.choice(AFTER), self.random.randrange(1, 25))
            )
            for caller in callers
            if self.random.random() < 0.7
        ]
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        for one in self.attempted:
            one.set()
        outcomes += await asyncio.gather(*cancelling, return_exceptions=True)
        assert {type(one) for one in outcomes} <= {type(None), asyncio.CancelledError}, outcomes
        await stream.close(drain_seconds=BOUND_SECONDS)
        log = await log_of(self.store)
        self.check(log)
        assert recorder.events == log, "a subscriber saw something else than the log"
        return log

    def check(self, log):
        written = [text for text in texts(log) if text != "foreign"]
        assert not [text for text, count in Counter(written).items() if count > 1], "doubled"
        expected = [text for text in self.accepted if text not in self.refused]
        assert written == expected, "lost, hidden or out of order"
        for text, event_id in self.acknowledged.items():
            assert texts(log)[event_id] == text, "acknowledged with another id"


async def run_trials(kind, seeds, folder):
    appended = acknowledged = cancelled = 0
    for seed in range(seeds):
        place = folder / str(seed)
        place.mkdir()
        async with open_event_store(kind, place) as inner:
            trial = Trial(seed, inner)
            try:
                log = await trial.run()
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise
        appended += len(log)
        acknowledged += len(trial.acknowledged)
        cancelled += trial.cancelled
    return appended, acknowledged, cancelled


@pytest.mark.parametrize(("kind", "seeds"), SEEDS.items())
def test_cancelled_callers_neither_lose_nor_double_nor_hide_an_accepted_event(
    kind, seeds, tmp_path, record_property
):
    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        appended, acknowledged, cancelled = runner.run(run_trials(kind, seeds, tmp_path))

    record_property(
        "figures",
        f"{seeds} seeds: {appended} appended, {acknowledged} acknowledged, {cancelled} cancelled",
    )
    assert appended > 10 * seeds
    assert cancelled > 2 * seeds
