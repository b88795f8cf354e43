"""Classes of an embedder's own, as settings name them."""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

from events.event import Event
from runtime_stub.agent import Example
from runtime_stub.base import Runtime, RuntimeBuilder
from runtime_stub.errors import FileMissing
from runtime_stub.scripted import ScriptedAgent
from runtime_stub.stub import StubRuntime, StubRuntimeBuilder
from server.access.auth import UserAuth
from server.conversations.manager import Joined
from server.conversations.monitoring import MonitoringListener
from server.conversations.standalone import StandaloneConversationManager
from server.errors import Unauthorized

NOT_A_CLASS = "text"


class RecordingListener(MonitoringListener):
    """Keeps what it was told, of all its instances."""

    told: list[tuple[Any, ...]] = []  # noqa: RUF012 - shared on purpose: the server makes the instance

    def on_session_start(self, conversation_id: str, user_id: str | None) -> None:
        self.told.append(("session", conversation_id, user_id))

    def on_session_event(self, conversation_id: str, event: Event) -> None:
        self.told.append(("event", conversation_id, event.id))

    def on_loop_start(self, conversation_id: str, *, succeeded: bool, seconds: float) -> None:
        self.told.append(("start", conversation_id, succeeded, seconds >= 0))

    def on_loop_stop(self, conversation_id: str) -> None:
        self.told.append(("stop", conversation_id))


class FailingListener(MonitoringListener):
    """Fails at everything."""

    def on_session_start(self, conversation_id: str, user_id: str | None) -> None:
        raise RuntimeError("session")

    def on_session_event(self, conversation_id: str, event: Event) -> None:
        raise RuntimeError("event")

    def on_loop_start(self, conversation_id: str, *, succeeded: bool, seconds: float) -> None:
        raise RuntimeError("start")


class HeaderAuth(UserAuth):
    """Takes a header's word for it, as behind a proxy that sets it."""

    async def user_id(self, headers: Mapping[str, str]) -> str | None:
        match headers.get("x-forwarded-user"):
            case None:
                raise Unauthorized("Nobody known asks")
            case "broken":
                raise RuntimeError("planned")
            case "unfit":
                return "a\x00b"
            case name:
                return name


class GreetingRuntimeBuilder(RuntimeBuilder):
    """Workspaces with a file in them."""

    async def build(self, conversation_id: str, user_id: str | None) -> Runtime:
        runtime = StubRuntime()
        await runtime.connect()
        await runtime.write_file("welcome.txt", conversation_id.encode())
        return runtime


ODD_NAME = "caf\udce9.txt"
"""A name in Latin-1 as Python gives names of files that are no UTF-8."""


class OddNamesRuntime(StubRuntime):
    """Has one file, whose name is no Unicode, and no other; its errors name what is missing."""

    async def list_files(self, path: str = "") -> Sequence[str]:
        return [ODD_NAME]

    async def read_file(self, path: str) -> bytes:
        if path == ODD_NAME:
            return b"bitter"
        raise FileMissing(f"{path}: not found beside {ODD_NAME}")


class OddNamesRuntimeBuilder(RuntimeBuilder):
    """Builds such workspaces."""

    async def build(self, conversation_id: str, user_id: str | None) -> Runtime:
        return OddNamesRuntime()


class ReadersRuntime(StubRuntime):
    """Has one file, and counts who reads it at the same time."""

    readers = 0
    most = 0

    async def list_files(self, path: str = "") -> Sequence[str]:
        return ["a.txt"]

    async def read_file(self, path: str) -> bytes:
        kind = type(self)
        kind.readers += 1
        kind.most = max(kind.most, kind.readers)
        await asyncio.sleep(0)
        kind.readers -= 1
        return b"a"


class ReadersRuntimeBuilder(RuntimeBuilder):
    """Builds such workspaces."""

    async def build(self, conversation_id: str, user_id: str | None) -> Runtime:
        return ReadersRuntime()


class ForgettingRuntimeBuilder(StubRuntimeBuilder):
    """Has `forgetting` called for each conversation that it is to forget."""

    forgetting: ClassVar[Callable[[str], Awaitable[None]]]

    async def forget(self, conversation_id: str) -> None:
        await type(self).forgetting(conversation_id)


class FailingRuntimeBuilder(RuntimeBuilder):
    """Cannot even be made."""

    def __init__(self) -> None:
        raise RuntimeError("no daemon")

    async def build(self, conversation_id: str, user_id: str | None) -> Runtime:
        raise NotImplementedError


class CountingManager(StandaloneConversationManager):
    """Counts the joins."""

    joins = 0

    async def join_conversation(self, *arguments: Any, **named: Any) -> Joined:
        type(self).joins += 1
        return await super().join_conversation(*arguments, **named)


class FailingToLetGo(StandaloneConversationManager):
    """Lets a connection go, and fails then."""

    error: ClassVar[type[BaseException]] = RuntimeError

    async def disconnect_from_session(self, connection_id: str) -> None:
        await super().disconnect_from_session(connection_id)
        raise self.error("planned")


class ExitingAtLettingGo(FailingToLetGo):
    """Asks for the end of the process then."""

    error = SystemExit


class HalfAuth(UserAuth):
    """Leaves things open."""

    @abstractmethod
    def another(self) -> None: ...


class UnwillingAgent(ScriptedAgent):
    """Is made for the look at its class, and then no more."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        if type(self).made > 1:
            raise RuntimeError("no model")


class ReticentAgent(ScriptedAgent):
    """An agent that offers nothing to begin with."""

    examples: ClassVar[Sequence[Example]] = ()


class MistakenAgent(ScriptedAgent):
    """An agent whose examples are only texts."""

    examples: ClassVar[Any] = ("/run ls",)
