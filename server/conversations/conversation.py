"""One open conversation of this process: its stream, its loop, its connections."""

import asyncio
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import time
from typing import Protocol

from events.actions import Action, ChangeAgentStateAction, MessageAction
from events.batch import Appended, Settled
from events.client_events import decode_client, text_of
from events.event import STATE, AgentState, Event, EventSource, StoredEvent
from events.fence import Fence
from events.observations import AgentStateChangedObservation, ErrorObservation
from events.stream import EventStream
from events.summary import SummaryChange
from runtime_stub.agent import Agent, Spending
from runtime_stub.base import Runtime, RuntimeBuilder, RuntimeStatus
from runtime_stub.replay import ReplayAgent
from runtime_stub.tools import McpOptions
from server.agent.contained import Deadlines
from server.agent.journal import LONGEST_REASON
from server.agent.lease import Lease
from server.agent.loop import AgentLoop
from server.agent.reasons import ERROR_ID, failure_of
from server.agent.states import LoopSettings
from server.agent.workspaces import Workspaces
from server.conversations.monitoring import SILENT, Monitor
from server.conversations.notices import error_notice, expiry_notice, status_notice
from server.conversations.record_updates import (
    MetadataFollower,
    RecordUpdateDependencies,
    RecordUpdater,
)
from server.errors import BadEdit
from server.observability.counters import ServerCounters
from server.turns.approval_events import DECISIONS
from server.turns.approvals import Approvals, Claim
from server.turns.context import Nobody, Step, TurnUser, plain_step
from server.turns.expiry import Expiry
from server.turns.memory import ProcessMemory, TurnMemory
from server.turns.threads import AGENT_THREADS, AgentThreads
from server.user_code import UserCode, fitting
from storage.conversations.base import ConversationStore

__all__ = ["Audience", "LoopDependencies", "ServerConversation", "Step", "plain_step"]

logger = logging.getLogger(__name__)

Settle = Callable[[], Awaitable[LoopSettings]]
"""Returns the settings with which a loop starts. Raises what the storage raises."""
Changed = Callable[[str, str | None, int], None]
"""Told of a conversation, its owner, and how many events it has more; must neither wait nor raise."""
NOTHING: Mapping[str, str] = {}
ASKS = b'"awaiting_confirmation"'
"""Is in every event that asks a person, unless the state before it does."""
LEAST_SECONDS = 0.2
"""Seconds accepted events may take to become durable, however long the loop took to stop."""


class Audience(Protocol):
    """The connections of a conversation, as receivers of payloads that are not events."""

    def notify(self, conversation_id: str, payload: dict[str, object]) -> None:
        """Send to every connection of the conversation."""


@dataclass(frozen=True, slots=True)
class LoopDependencies:
    """The parts of an agent loop."""

    make_agent: Callable[[], Agent]
    runtime_builder: RuntimeBuilder
    deadlines: Deadlines = Deadlines()  # noqa: RUF009 - immutable
    record_updates: RecordUpdateDependencies = RecordUpdateDependencies()  # noqa: RUF009 - immutable
    monitor: Monitor = SILENT
    server_counters: ServerCounters = field(default_factory=ServerCounters)
    step: Step = plain_step
    """The call of an agent's step."""
    user: Callable[[str | None], TurnUser] = Nobody
    """Gives agents what a user has chosen and keeps secret."""
    memory: TurnMemory = field(default_factory=ProcessMemory)
    agent_threads: int = AGENT_THREADS
    workspaces: Workspaces = field(default_factory=Workspaces)
    mcp: McpOptions = McpOptions()  # noqa: RUF009 - immutable
    approval_seconds: float | None = None
    """Seconds after which an approval expires; None for never."""
    changed: Changed | None = None
    """Told of events that are committed, and of new titles and deletions with 0 events."""
    recover: Callable[[EventStream], Awaitable[None]] | None = None
    """Appends the texts that a crash cut short, once a loop that others may run is claimed; see Checkpoints."""
    threads: AgentThreads = field(init=False)

    def __post_init__(self) -> None:
        threads = AgentThreads(self.agent_threads, self.server_counters)
        object.__setattr__(self, "threads", threads)


class ServerConversation:
    """Owns one conversation's stream and its zero or one agent loop.

    `start_loop` and `stop_loop` are serial. The manager decides when they run and when the whole
    is closed; attached connections and requests only use it.
    """

    # Many are open with nothing to do: each holds only what it needs.
    __slots__ = (
        "__weakref__",
        "_approvals",
        "_audience",
        "_environment",
        "_follower",
        "_loop",
        "_on_closed",
        "_parts",
        "_record_updates",
        "_records",
        "_serial",
        "_start_failed",
        "conversation_id",
        "last_activity",
        "loop",
        "replay",
        "stream",
        "user_id",
        "watchers",
    )

    def __init__(
        self,
        conversation_id: str,
        user_id: str | None,
        stream: EventStream,
        parts: LoopDependencies,
        records: ConversationStore,
        audience: Audience,
        follower: MetadataFollower | None = None,
        on_closed: Callable[["ServerConversation"], None] | None = None,
    ) -> None:
        self.conversation_id = conversation_id
        self.user_id = user_id
        self.stream = stream
        self.loop: AgentLoop | None = None
        self.watchers = 0
        """Attached connections."""
        self.replay: Sequence[Action] = ()
        self._start_failed = False
        self._loop = asyncio.get_running_loop()
        self.last_activity = self._loop.time()
        self._parts = parts
        self._records = records
        self._audience = audience
        self._follower = follower
        self._on_closed = on_closed
        self._environment: Mapping[str, str] = NOTHING
        self._approvals: Approvals | None = None
        self._record_updates: RecordUpdater | None = None
        self._serial: asyncio.Lock | None = None
        if parts.changed is not None:
            stream.tap(self._committed)
        parts.server_counters.conversations += 1
        parts.monitor.session_started(stream, user_id)

    @property
    def runtime_status(self) -> str | None:
        """The runtime's status; None while there is no runtime."""
        return None if self.loop is None else self.loop.runtime.status.value

    @property
    def ready(self) -> bool:
        """Whether the loop runs on a ready runtime."""
        return self.loop is not None and self.loop.runtime.status is RuntimeStatus.READY

    @property
    def approvals(self) -> Approvals:
        """The questions whether an action may be carried out; read from the log by `read_approvals`."""
        if self._approvals is None:
            # What the log had to say was read when the conversation was opened: nothing.
            self._approvals = Approvals(self.user_id, self._expiry(), is_read=True)
        return self._approvals

    async def read_approvals(self) -> None:
        """Read from the log which actions wait for a person. Raises what the storage raises."""
        if self.stream.last_state_id is not None:
            # Held from the first moment on, for `close` to end the watch over what expires.
            found = self._approvals = Approvals(self.user_id, self._expiry())
            await found.read(self.stream)
            self._approvals = None if found.is_empty else found

    def follow_approvals(self) -> None:
        """Learn from the log, as it is published here, what loops of other processes ask."""
        self.stream.tap(self._follow_approvals)

    def ask_again(self, approval: int, client_id: str | None) -> Future[Appended]:
        """Let the time in which an open approval can be decided begin anew, once that is durable.

        Raises what enqueueing raises.
        """
        command = ChangeAgentStateAction(
            agent_state=AgentState.AWAITING_USER_CONFIRMATION, of=approval
        )
        appending = self.stream.enqueue(command, EventSource.USER, client_id=client_id)

        def renew(done: Future[Appended]) -> None:
            if not done.cancelled() and done.exception() is None and not done.result().duplicate:
                self.approvals.ask_again(approval, time())

        appending.add_done_callback(renew)
        self.touch()
        return appending

    def ask_always(self, kind: str) -> Future[Appended] | None:
        """Have people asked about a kind of action that was allowed; None where it was not.

        Raises what enqueueing raises.
        """
        approvals = self.approvals
        if kind not in approvals.allowed:
            return None
        command = ChangeAgentStateAction(
            agent_state=AgentState.AWAITING_USER_CONFIRMATION, always=kind
        )
        appending = self.stream.enqueue(command, EventSource.USER)
        approvals.revoke(kind)

        def undo(done: Future[Appended]) -> None:
            if done.cancelled() or done.exception() is not None:
                approvals.allow(kind)

        appending.add_done_callback(undo)
        self.touch()
        return appending

    def touch(self) -> None:
        """Record that the conversation is used now."""
        self.last_activity = self._loop.time()

    def learn(self, masks: Mapping[str, str], environment: Mapping[str, str]) -> None:
        """Mask these values from now on, and set these variables for commands.

        Masks are only added, in one step and before the runtime has a value; variables that are no
        longer named are removed.
        """
        self.stream.update_secrets(masks)
        if environment == self._environment:
            return
        withdrawn = dict.fromkeys(self._environment.keys() - environment.keys())
        self._environment = environment
        if self.loop is not None:
            self.loop.set_environment({**withdrawn, **environment})

    def accept(self, data: object, settled: Settled) -> None:
        """Enqueue a client's event before any await.

        Raises BadEvent, AlreadyDecided, BadEdit and what enqueueing raises.
        """
        plain = text_of(data)
        if plain is None:
            event, client_id = decode_client(data)
            claim = self._claim(event, client_id, settled)
            try:
                self.stream.submit(event, EventSource.USER, claim or settled, client_id=client_id)
            except BaseException:
                if claim is not None:
                    claim.undo()
                raise
        else:
            text, client_id = plain
            self.stream.submit_text(text, EventSource.USER, settled, client_id=client_id)
        self.touch()

    def _claim(self, event: Event, client_id: str | None, settled: Settled) -> Claim | None:
        if not isinstance(event, ChangeAgentStateAction):
            return None
        if event.agent_state not in DECISIONS:
            if event.edit is not None or event.always is not None:
                raise BadEdit("Only a decision about an action has `edit` and `always`")
            return None
        return self.approvals.claim(event, client_id, settled)

    def say(
        self,
        content: str,
        image_urls: Sequence[str] | None,
        client_id: str | None,
        *,
        file_urls: Sequence[str] | None = None,
    ) -> Future[Appended]:
        """Enqueue a user message made by the server for its user."""
        message = MessageAction(
            content=content,
            file_urls=None if file_urls is None else list(file_urls),
            image_urls=list(image_urls or []),
        )
        return self.stream.enqueue(message, EventSource.USER, client_id=client_id)

    async def start_loop(
        self,
        settings: Settle,
        on_rest: Callable[[], None],
        fence: Fence | None = None,
        lease: Lease | None = None,
    ) -> None:
        """Build the runtime and start the loop unless there is one. Raises what that raises.

        A failure is the conversation's state, `settings` failing as well. The loop appends under the
        `fence`, or a claim made in this process, and does nothing while the `lease` is not held.
        """
        async with self._lock():
            if self.loop is not None:
                return
            if fence is not None:
                await self._catch_up()
            begun, succeeded = self._loop.time(), False
            try:
                await self._start_loop(settings, on_rest, fence, lease)
                succeeded = True
            finally:
                self._parts.monitor.loop_started(
                    self.conversation_id, succeeded=succeeded, seconds=self._loop.time() - begun
                )

    @property
    def start_failed(self) -> bool:
        """Whether the last start has failed: a message that comes now is left to the next loop."""
        return self._start_failed or (self.loop is not None and self.loop.sealed)

    def stop_was_asked_for(self) -> None:
        """Note that it is the user who stops the loop: its turn is not begun again."""
        if self.loop is not None:
            self.loop.stopped_by_user = True

    def abandon_loop(self) -> None:
        """Have the loop write nothing more: it belongs to another process. It is stopped next."""
        if self.loop is not None:
            self.loop.abandon()

    async def stop_loop(self) -> bool:
        """Stop the loop and record it; return whether there was one."""
        async with self._lock():
            if self.loop is None:
                return False
            await self._end_loop(self.loop.close)
            self._parts.monitor.loop_stopped(self.conversation_id)
            return True

    async def say_state(self, state: AgentState, reason: str = "") -> None:
        """Record a state that no loop is there to record."""
        fact = AgentStateChangedObservation(agent_state=state, reason=reason)
        if self._approvals is not None:
            fact = self._approvals.named_in(fact)
        await self.stream.append(fact, EventSource.ENVIRONMENT)

    async def close(self) -> None:
        """Stop the loop, make accepted events durable, end the stream."""
        self._parts.server_counters.conversations -= 1
        due = self._loop.time() + self._parts.deadlines.stop
        await self.stop_loop()
        if self._approvals is not None:
            self._approvals.close()
        await self.stream.close(drain_seconds=self._left(due))
        if self._follower is not None:
            await self._follower.close(self._left(due))
        if self._on_closed is not None:
            self._on_closed(self)

    async def _catch_up(self) -> None:
        """Read what earlier holders of the loop appended, and nobody else may append any more.

        A text of theirs that was not whole is cut short by now.
        """
        await self.stream.look()
        if self._parts.recover is not None:
            await self._parts.recover(self.stream)
        if self._approvals is not None:
            self._approvals.close()
        await self.read_approvals()

    def _follow_approvals(self, events: Sequence[StoredEvent], _summary: SummaryChange) -> None:
        if self.loop is not None:
            return  # which notes what it asks by itself
        known = self._approvals is not None
        for stored in events:
            if known or stored.flag is STATE or ASKS in stored.body:
                self.approvals.follow(self.stream, stored)

    def _committed(self, events: Sequence[StoredEvent], _summary: SummaryChange) -> None:
        self._changed(len(events))

    def _changed(self, events: int) -> None:
        if self._parts.changed is not None:
            self._parts.changed(self.conversation_id, self.user_id, events)

    def _left(self, due: float) -> float:
        return max(LEAST_SECONDS, due - self._loop.time())

    def _lock(self) -> asyncio.Lock:
        if self._serial is None:
            self._serial = asyncio.Lock()
        return self._serial

    def _make_agent(self) -> Agent:
        agent = self._parts.make_agent()
        recorded, self.replay = self.replay, ()
        return ReplayAgent(recorded, agent) if recorded else agent

    async def _start_loop(
        self,
        settings: Settle,
        on_rest: Callable[[], None],
        fence: Fence | None,
        lease: Lease | None,
    ) -> None:
        self._start_failed = False
        code = UserCode(self.conversation_id)
        runtime: Runtime | None = None
        try:
            settled = await settings()
            record = await self._records.get_metadata(self.conversation_id)
            runtime = await self._build_runtime(code)
            code.call(runtime.set_environment, self._environment)
            loop = AgentLoop(
                self.stream.claim() if fence is None else self.stream.held_by(fence),
                fitting(code.call(self._make_agent), Agent, "the agent class"),
                runtime,
                settled,
                Spending(record.accumulated_cost, record.prompt_tokens, record.completion_tokens),
                on_error=self._show_error,
                on_rest=on_rest,
                step=self._step,
                code=code,
                deadlines=self._parts.deadlines,
                on_status=self._show_status,
                user=self._parts.user(self.user_id),
                memory=self._parts.memory,
                threads=self._parts.threads,
                approvals=self.approvals,
                workspaces=self._parts.workspaces,
                mcp=self._parts.mcp,
                lease=lease,
            )
        except Exception as error:
            self._start_failed = True
            try:
                await self._append_failed(error)
            finally:
                if runtime is not None:
                    closing = runtime.close
                    await code.wait(closing, self._parts.deadlines.close, "the runtime's close")
            raise
        self.loop = loop
        self._parts.server_counters.loops += 1
        self._parts.server_counters.loops_started += 1
        self._record_updates = RecordUpdater(
            self.stream,
            self._records,
            loop.runtime,
            self._show_update,
            self._parts.record_updates,
            titled=record.title is not None,
        )
        try:
            await loop.start()
        except asyncio.CancelledError:
            await self._end_loop(loop.close)
            raise
        except Exception:
            self._start_failed = True
            await self._end_loop(loop.release)
            raise

    async def _build_runtime(self, code: UserCode) -> Runtime:
        build = partial(self._parts.runtime_builder.build, self.conversation_id, self.user_id)
        runtime = await code.wait(build, self._parts.deadlines.start, "the runtime's build")
        return fitting(runtime, Runtime, "the runtime's build")

    async def _append_failed(self, error: Exception) -> None:
        failure = failure_of(error)
        text = self.stream.masked(failure.text)[:LONGEST_REASON]
        self._show_error(text)
        shown = ErrorObservation(content=text, error_id=failure.error_id)
        _ = self.stream.enqueue(shown, EventSource.ENVIRONMENT)
        await self.say_state(AgentState.ERROR, self.stream.masked(failure.reason)[:LONGEST_REASON])

    async def _end_loop(self, close: Callable[[], Awaitable[object]]) -> None:
        self.loop = None
        self._parts.server_counters.loops -= 1
        record_updates, self._record_updates = self._record_updates, None
        if record_updates is not None:
            await record_updates.close()
        await close()

    def _step(self, agent: Agent, conversation_id: str) -> Awaitable[Action | None]:
        self._parts.server_counters.agent_steps += 1
        return self._parts.step(agent, conversation_id)

    def _expiry(self) -> Expiry:
        return Expiry(self._parts.approval_seconds, self._show_expired)

    def _show_expired(self, approval: int) -> None:
        if approval in self.approvals.open_ids:
            self._audience.notify(self.conversation_id, expiry_notice(approval))

    def _show_update(self, conversation_id: str, payload: dict[str, object]) -> None:
        self._audience.notify(conversation_id, payload)
        self._changed(0)

    def _show_status(self, text: str) -> None:
        self._audience.notify(self.conversation_id, status_notice(text))

    def _show_error(self, reason: str) -> None:
        self._parts.server_counters.loop_failures += 1
        shown = self.stream.masked(reason)
        self._audience.notify(self.conversation_id, error_notice(ERROR_ID, shown))
