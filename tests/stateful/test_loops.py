"""The scheduler of loops against a plain model, with a real manager, real loops and a clock that leaps."""

import asyncio
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

import orjson
from hypothesis import Phase, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from server.agent.states import LoopSettings
from server.conversations.loop_entries import WaitsFor
from storage.conversations.metadata import ConversationMetadata
from tests.support.clients import message
from tests.support.histories import short_of, try_histories
from tests.support.loop_world import WORK, loop_place
from tests.support.quick_loop import QuickLoop
from tests.support.report import counted

LIMIT = 2
START_SECONDS = 60.0
CLOSE_SECONDS = 2.0
DELAY_SECONDS = 25.5
SETTINGS = LoopSettings(quiet_seconds=1e6, turn_seconds=1e6)
"""The clock leaps over minutes in which an agent is at work."""
USERS = ("ann", "ann", "ann", "ann", "bob", "bob")
PLACES = st.integers(0, len(USERS) - 1)
STARTS = st.sampled_from(["at once"] * 3 + ["fails", "fails late", "hangs", "held"])


@dataclass(eq=False, slots=True)
class Plain:
    """The state one conversation should have."""

    user: str
    id: str
    state: str | None = None
    has_work: bool = False
    since: float = 0.0
    watchers: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    """Messages that no loop has taken up."""
    doing: list[str] = field(default_factory=list)
    """Messages that the running loop has taken up and not answered."""
    answered: list[str] = field(default_factory=list)
    active: float = 0.0
    start: str = "at once"
    """The way of its next start."""
    starting_as: str = "at once"
    """The way of the start under way."""
    closes_late: bool = False
    """Its runtime is closed when the test lets it, or after its deadline."""
    closing_late: bool = False
    """That is under way."""
    has_runtime: bool = False
    barred: bool = False
    deleted: bool = False

    @property
    def is_failing(self) -> bool:
        """Whether it has failed to start, and is being released."""
        return self.state == "starting" and self.starting_as == "fails late"


class Model:
    """The scheduler said in lists: who waits, who holds a slot, what follows from what."""

    def __init__(self) -> None:
        self.all: list[Plain] = []
        self.queue: list[Plain] = []
        """Those that wait, in the order in which they came to their rank."""
        self.holding: list[Plain] = []
        """Those that have a slot, in the order in which they got it."""
        self.coming: deque[tuple[str, Plain]] = deque()
        self.draining = False
        self.drain_due: float | None = None
        self.now = 0.0
        self.real: dict[str, str] = {}
        """The states that the scheduler tells."""

    def of(self, user: str, *states: str) -> list[Plain]:
        return [one for one in self.holding if one.user == user and one.state in states]

    def leaving(self, user: str) -> list[Plain]:
        return [one for one in self.of(user, "stopping") if not one.has_work]

    def waiting(self, user: str) -> list[Plain]:
        mine = [one for one in self.queue if one.user == user]
        return sorted(mine, key=lambda one: not one.has_work)

    def serve(self, user: str) -> None:
        if self.draining:
            return
        while (waiting := self.waiting(user)) and len(self.of(user, *HOLDING)) < LIMIT:
            self.begin(waiting[0])
        missing = len(waiting) - len(self.leaving(user))
        idle = [one for one in self.of(user, "running") if not one.doing and not one.watchers]
        for victim in sorted(idle, key=self.rank)[: max(0, missing)]:
            self.stop(victim)

    def rank(self, one: Plain) -> tuple[float, bool]:
        """Order idle loops; of those that came to rest in one moment either may be the first."""
        return one.active, self.real.get(one.id) == "running"

    def begin(self, one: Plain) -> None:
        self.queue.remove(one)
        self.holding.append(one)
        one.state, one.since, one.has_work = "starting", self.now, False
        one.starting_as = one.start
        if one.start == "fails late":
            one.has_runtime, one.closing_late = True, one.closes_late
        if one.start in {"at once", "fails"} or (
            one.start == "fails late" and not one.closing_late
        ):
            self.coming.append(("up" if one.start == "at once" else "failed", one))

    def up(self, one: Plain) -> None:
        one.state, one.has_runtime = "running", True
        self.take_up(one)

    def take_up(self, one: Plain) -> None:
        one.doing += one.pending
        one.pending.clear()
        self.go_on(one)

    def go_on(self, one: Plain, *, finished: bool = False) -> None:
        while one.doing and (finished or not one.doing[0].startswith(WORK)):
            one.answered.append(one.doing.pop(0))
        if not one.doing:
            self.rest(one)

    def rest(self, one: Plain) -> None:
        one.active = self.now
        if self.draining:
            self.stop(one)
        else:
            self.coming.append(("serve", one))

    def stop(self, one: Plain) -> None:
        if one.state == "stopping":
            return
        # A runtime that is being released already is closed at once.
        one.closing_late = one.closes_late and one.has_runtime and not one.is_failing
        one.state, one.since, one.has_work = "stopping", self.now, False
        one.doing.clear()
        if not one.closing_late:
            self.coming.append(("stopped", one))

    def stopped(self, one: Plain) -> None:
        self.holding.remove(one)
        one.has_runtime = False
        one.state = None
        if one.barred:
            self.gone(one)
        elif one.has_work:
            self.wait(one, has_work=True)
        self.let_go(one)

    def failed(self, one: Plain) -> None:
        self.holding.remove(one)
        one.state, one.has_runtime = None, False
        if one.has_work:
            self.wait(one, has_work=True)
        self.let_go(one)

    def let_go(self, one: Plain) -> None:
        self.serve(one.user)
        if self.draining and not self.holding:
            self.drain_due = None

    def gone(self, one: Plain) -> None:
        one.deleted = True

    def wait(self, one: Plain, *, has_work: bool) -> None:
        one.state, one.has_work = "waiting", has_work
        self.queue.append(one)

    def give_up(self, one: Plain) -> None:
        self.queue.remove(one)
        one.state, one.has_work = None, False
        self.let_go(one)

    def ensure(self, one: Plain, *, has_work: bool) -> bool:
        if one.barred:
            return False
        if one.state is None:
            self.wait(one, has_work=has_work)
        elif one.state == "waiting" and has_work and not one.has_work:
            self.queue.remove(one)
            self.wait(one, has_work=True)
        elif one.state == "stopping" or one.is_failing:
            one.has_work = one.has_work or has_work
        if one.state != "waiting":
            return False
        self.serve(one.user)
        return self.must_wait(one)

    def must_wait(self, one: Plain) -> bool:
        if one.state != "waiting":
            return False
        queue = [other for other in self.waiting(one.user) if other.has_work or not one.has_work]
        return len(self.leaving(one.user)) < len(queue)

    def settle(self) -> None:
        while self.coming:
            what, one = self.coming.popleft()
            if what == "serve":
                self.serve(one.user)
            elif what == "stopped" and one.state == "stopping":
                self.stopped(one)
            elif what == "up" and one.state == "starting":
                self.up(one)
            elif what == "failed" and one.state == "starting":
                self.failed(one)
            elif what == "idle" and one.state == "running":
                self.stop(one)

    def pass_time(self, seconds: float) -> None:
        """Let happen, one after the other, what is due within that time."""
        end = self.now + seconds
        while (due := self.next_due()) is not None and due[0] <= end:
            self.now, what, one = due
            if one is None:
                self.end_drain()
            else:
                self.coming.append((what, one))
            self.settle()
        self.now = end

    def next_due(self) -> tuple[float, str, Plain | None] | None:
        found: list[tuple[float, str, Plain | None]] = []
        if self.drain_due is not None:
            found.append((self.drain_due, "drain", None))
        for one in self.holding:
            if one.state == "stopping":
                found.append((one.since + CLOSE_SECONDS, "stopped", one))
            elif one.is_failing:
                found.append((one.since + CLOSE_SECONDS, "failed", one))
            elif one.state == "starting" and one.starting_as in {"hangs", "held"}:
                found.append((one.since + START_SECONDS, "failed", one))
            elif one.state == "running" and not one.doing and not one.watchers:
                found.append((one.active + DELAY_SECONDS, "idle", one))
        return min(found, key=lambda due: due[0], default=None)

    def end_drain(self) -> None:
        self.drain_due = None
        for one in list(self.holding):
            self.stop(one)


HOLDING = ("starting", "running", "stopping")


class LoopMachine(RuleBasedStateMachine):
    """Conversations of two users, joined, written to, closed and deleted while loops come and go."""

    figures: ClassVar[Counter[str]]

    @initialize(
        late=st.sets(PLACES),
        starts=st.lists(STARTS, min_size=6, max_size=6),
        abrupt=st.sampled_from([False, False, True]),
    )
    def begin(self, late, starts, abrupt):
        self.abrupt = abrupt
        self.runner = asyncio.Runner(loop_factory=QuickLoop)
        self.model = Model()
        self.count = 0
        self.tasks: list[asyncio.Task[object]] = []
        self.drain_task: asyncio.Task[None] | None = None
        self.run(self.open())
        for place, how in enumerate(starts):
            self.start_like_this(place, how)
            self.close_like_this(place, place in late)

    async def open(self):
        self.place = loop_place(
            max_concurrent_conversations=LIMIT,
            close_delay_seconds=DELAY_SECONDS,
            runtime_start_seconds=START_SECONDS,
            agent_close_seconds=CLOSE_SECONDS,
        )
        self.manager = await self.place.manager.__aenter__()
        self.world = self.place.world
        for user in USERS:
            self.model.all.append(await self.new(user))

    async def new(self, user):
        self.count += 1
        plain = Plain(user, f"c{self.count}")
        record = ConversationMetadata(conversation_id=plain.id, title="A title")
        await self.place.conversations.for_user(user).save_metadata(record)
        return plain

    def run(self, work):
        return self.runner.run(work)

    def act(self, place, work):
        """Do something to one conversation, a second after the last thing, and see it through."""
        self.run(self.acted(place, work))

    async def acted(self, place, work):
        await self.let_pass(1.0)
        await work(self.model.all[place])
        await self.settled()

    async def let_pass(self, seconds):
        await asyncio.sleep(seconds)
        await self.look()
        self.model.pass_time(seconds)
        await self.settled()

    async def settled(self):
        """Wait for everything that needs no time; hardly any passes."""
        await asyncio.sleep(0.0001)
        await self.look()
        self.model.settle()
        self.model.now = asyncio.get_running_loop().time()
        for place, one in enumerate(self.model.all):
            if one.deleted:
                for connection_id in one.watchers:
                    await self.manager.disconnect_from_session(connection_id)
                anew = self.model.all[place] = await self.new(one.user)
                anew.start = self.world.start[anew.id] = one.start
                await self.gate_close(anew, one.closes_late)
        self.tasks = [task for task in self.tasks if not task.done()]
        await self.compare()

    async def look(self):
        infos = await self.manager.every_agent_loop()
        self.model.real = {info.conversation_id: str(info.loop.state) for info in infos}
        self.reasons = {info.conversation_id: info.loop.waits_for for info in infos}
        self.working = {info.conversation_id for info in infos if info.working}

    async def compare(self):
        for one in self.model.all:
            assert self.model.real.get(one.id) == one.state, one
            reason = WaitsFor.RESUME if self.model.draining else WaitsFor.SLOT
            assert self.reasons.get(one.id) == (reason if one.state == "waiting" else None), one
            if one.state == "running":
                assert (one.id in self.working) == bool(one.doing), one
            assert self.world.runtimes[one.id] == one.has_runtime, one
            assert self.world.most[one.id] <= 1
        for user in set(USERS):
            assert len(self.model.of(user, *HOLDING)) <= LIMIT
        for one in self.model.holding:
            self.figures[f"seen {one.state}"] += 1
        self.figures["seen waiting"] += len(self.model.queue)

    @rule(place=PLACES, kind=st.sampled_from(["quick", WORK]))
    def write(self, place, kind):
        self.act(place, lambda one: self.say(one, kind))
        self.figures["messages"] += 1

    async def say(self, one, kind="quick"):
        self.count += 1
        text = f"{kind} {self.count}"
        async with self.manager.attach(one.id, one.user) as conversation:
            accepted = await self.manager.accept(conversation, message(text))
        one.active = self.model.now
        if one.state == "running":
            idle = not one.doing
            one.doing.append(text)
            if idle:
                self.model.go_on(one)
        else:
            one.pending.append(text)
        assert accepted.queued == self.model.ensure(one, has_work=True), one

    @rule(place=PLACES)
    def finish(self, place):
        self.act(place, self.let_finish)

    async def let_finish(self, one):
        for text in one.doing:
            self.world.work.setdefault(text, asyncio.Event()).set()
        if one.doing:
            self.model.go_on(one, finished=True)

    @rule(place=PLACES)
    def join(self, place):
        self.act(place, self.come)

    async def come(self, one):
        self.count += 1
        connection_id = f"k{self.count}"
        joined = await self.manager.join_conversation(one.id, connection_id, SETTINGS, one.user)
        one.active = self.model.now
        one.watchers.append(connection_id)
        queued = self.model.ensure(one, has_work=False)
        assert joined.info.queued == (one.state == "waiting"), (one, queued)

    @rule(place=PLACES)
    def leave(self, place):
        self.act(place, self.go)

    async def go(self, one):
        if not one.watchers:
            return
        await self.manager.disconnect_from_session(one.watchers.pop())
        one.active = self.model.now
        if not one.watchers:
            if one.state == "waiting" and not one.has_work:
                self.model.give_up(one)
            elif one.state == "running":
                self.model.serve(one.user)

    @rule(place=PLACES, how=STARTS)
    def start_like_this(self, place, how):
        one = self.model.all[place]
        one.start = self.world.start[one.id] = how

    @rule(place=PLACES)
    def let_start(self, place):
        self.act(place, self.open_gate)

    async def open_gate(self, one):
        gate = self.world.held_starts.pop(one.id, None)
        if gate is not None:
            gate.set()
        if one.state == "starting" and one.starting_as == "held":
            self.model.coming.append(("up", one))
            self.figures["held starts"] += 1

    @rule(place=PLACES, late=st.booleans())
    def close_like_this(self, place, late):
        self.act(place, lambda one: self.gate_close(one, late))

    async def close_at_once(self, one):
        await self.gate_close(one, late=False)

    async def gate_close(self, one, late):
        gate = self.world.held_closes.pop(one.id, None)
        if gate is not None:
            gate.set()
        if one.closing_late and (one.state == "stopping" or one.is_failing):
            one.closing_late = False
            self.model.coming.append(("failed" if one.is_failing else "stopped", one))
        one.closes_late = late
        if late:
            self.world.held_closes[one.id] = asyncio.Event()

    @rule(place=PLACES)
    def close(self, place):
        self.act(place, self.begin_close)

    async def begin_close(self, one):
        self.spawn(self.manager.close_session(one.id))
        if one.state == "waiting":
            self.model.give_up(one)
        elif one.state in {"starting", "running"}:
            self.model.stop(one)
            self.figures["closed"] += 1
        elif one.state == "stopping":
            one.has_work = False

    @rule(
        place=PLACES,
        end=st.sampled_from(["begin_close", "begin_delete"]),
        then=st.sampled_from(["say", "come", "begin_close", "begin_delete"]),
    )
    def end_and(self, place, end, then):
        """Something comes in the step in which the end begins."""
        self.act(place, lambda one: self.end_and_do(one, end, then))

    async def end_and_do(self, one, end, then):
        if one.state not in {"starting", "running"}:
            return
        self.figures[f"{then} during a stop"] += 1
        await getattr(self, end)(one)
        await asyncio.sleep(0)
        await getattr(self, then)(one)

    @rule(
        place=PLACES,
        then=st.sampled_from(["say", "say", "come", "begin_close", "begin_delete"]),
        sure=st.sampled_from([True, False, False, False]),
        again=STARTS,
    )
    def fail_and(self, place, then, sure, again):
        """Something comes while what is left of a start that has failed is released."""
        if sure:
            self.act(place, self.begin_to_fail)
            self.start_like_this(place, again)
            self.act(place, lambda one: self.do_to_a_failed_start(one, then))

    async def begin_to_fail(self, one):
        if one.state is None:
            one.start = self.world.start[one.id] = "fails late"
            await self.gate_close(one, late=True)
            await self.say(one)

    async def do_to_a_failed_start(self, one, then):
        if one.is_failing:
            self.figures[f"{then} to a failed start"] += 1
            await getattr(self, then)(one)

    @rule(place=PLACES, sure=st.sampled_from([True, False, False]))
    def delete(self, place, sure):
        if sure:
            self.act(place, self.begin_delete)

    async def begin_delete(self, one):
        self.spawn(self.manager.delete_conversation(one.id, one.user))
        self.figures[f"deleted when {one.state}"] += not one.barred
        one.barred = True
        if one.state in {"starting", "running"}:
            self.model.stop(one)
        elif one.state != "stopping":
            if one.state == "waiting":
                self.model.give_up(one)
            one.deleted = True

    def spawn(self, work):
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    @precondition(lambda self: not self.model.draining)
    @rule(seconds=st.sampled_from([0.5, 5.0, 90.0]))
    def drain(self, seconds):
        self.run(self.begin_drain(seconds))
        self.figures["drains"] += 1

    async def begin_drain(self, seconds):
        self.drain_task = asyncio.get_running_loop().create_task(self.manager.drain(seconds))
        model = self.model
        model.draining = True
        model.drain_due = model.now + seconds if model.holding else None
        for one in list(model.holding):
            if one.state == "running" and not one.doing:
                model.stop(one)
        await self.settled()

    @precondition(lambda self: self.model.draining)
    @rule()
    def resume(self):
        self.run(self.end_drain())

    async def end_drain(self):
        if self.drain_task is not None:
            self.drain_task.cancel()
            with suppress(asyncio.CancelledError):
                await self.drain_task
        self.drain_task = None
        self.manager.resume()
        self.model.draining, self.model.drain_due = False, None
        for user in dict.fromkeys(USERS):
            self.model.serve(user)
        await self.settled()

    @rule(seconds=st.sampled_from([3.0, 30.0, 70.0]))
    def wait(self, seconds):
        self.run(self.let_pass(seconds))

    def teardown(self):
        if hasattr(self, "runner"):
            try:
                if not self.abrupt:
                    self.run(self.end())
                self.run(self.shut_down())
            finally:
                self.runner.close()

    async def end(self):
        """Let everything go on: what was asked is answered, and at the end nothing is left."""
        if self.model.draining:
            await self.end_drain()
        for place in range(len(USERS)):
            while self.model.all[place].watchers:
                await self.acted(place, self.go)
        for _ in range(2 * len(USERS)):
            for place, one in enumerate(self.model.all):
                one.start = self.world.start[one.id] = "at once"
                for let in (self.open_gate, self.close_at_once, self.let_finish):
                    await self.acted(place, let)
            await self.let_pass(START_SECONDS)
        assert not self.model.holding
        assert not self.model.queue
        for one in self.model.all:
            said = await self.place.events.read(one.id, 0, 2**31)
            texts = [orjson.loads(stored.body).get("message") or "" for stored in said]
            assert [text[6:] for text in texts if text.startswith("done: ")] == one.answered
            self.figures["answered"] += len(one.answered)

    async def shut_down(self):
        """Stop the server, whatever its loops are at: nothing of them is left."""
        self.figures["stopped with loops"] += bool(self.model.holding)
        if self.drain_task is not None:
            self.drain_task.cancel()
        await self.manager.__aexit__()
        await asyncio.wait_for(asyncio.gather(*self.tasks), 60.0)
        assert not +self.world.runtimes
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


def test_any_history_of_loops_agrees_with_a_plain_model(record_property):
    floors = {
        "answered": 100,
        "seen waiting": 100,
        "seen stopping": 100,
        "held starts": 20,
        "say during a stop": 5,
        "come during a stop": 2,
        "begin_close during a stop": 0,
        "begin_delete during a stop": 0,
        "stopped with loops": 20,
        "say to a failed start": 10,
    }

    figures = try_histories(
        LoopMachine,
        floors,
        histories=240,
        steps=40,
        # Shrinking a history takes longer than a test may; shorter ones are found by fewer steps.
        phases=[Phase.generate],
    )

    record_property("figures", counted(figures))
    assert short_of(floors, figures) == {}
