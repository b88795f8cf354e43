"""Agents that override `run`, and that need no model."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import ClassVar

import httpx
import orjson

from events.actions import Action, ChangeAgentStateAction, CmdRunAction, MCPAction, MessageAction
from events.event import EventSource
from runtime_stub.agent import Agent
from runtime_stub.blocking import BlockingAgent, BlockingTurn
from runtime_stub.turn import Turn, Usage, Window


def asked(turn: Turn | BlockingTurn) -> str:
    """Return the texts of a turn's messages."""
    return " ".join(one.content for one in turn.cause if isinstance(one, MessageAction))


async def write(turn: Turn, text: str) -> None:
    """Say a text in one piece."""
    async with turn.say() as answer:
        answer.write(text)


class Does(Agent):
    """Does what a test gives it to do."""

    def __init__(self, work: Callable[[Turn], Awaitable[object]]) -> None:
        self._work = work
        self.turns: list[Turn] = []

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        self.turns.append(turn)
        await self._work(turn)


class Adds(Agent):
    """Has two numbers added by a tool server."""

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        await turn.act(MCPAction(name="sums__add", arguments={"a": 1, "b": 2}))


class Blocks(BlockingAgent):
    """Does in a thread what a test gives it to do."""

    def __init__(self, work: Callable[[BlockingTurn], object]) -> None:
        self._work = work

    def work(self, turn: BlockingTurn) -> None:
        """See BlockingAgent."""
        self._work(turn)


class Gated(Agent):
    """Works until its test lets it go, then answers."""

    go: ClassVar[asyncio.Event]

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        await self.go.wait()
        await write(turn, "Let go")


class Answering(Agent):
    """Answers with the messages there are in the history, after what a message's first word says.

    `slow` writes and waits for ever, `hang` waits without a word, `run` has a command carried out
    that takes long, `ask` asks.
    """

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        text = asked(turn)
        if text.startswith("hang"):
            await asyncio.Event().wait()
        if text.startswith("run"):
            await turn.act(CmdRunAction(command="sleep 600"))
        async with turn.say() as answer:
            if text.startswith("slow"):
                answer.write("A long answer begins")
                await asyncio.Event().wait()
            known = [
                event.content
                async for event in turn.history.events()
                if isinstance(event, MessageAction) and event.source == EventSource.USER
            ]
            answer.write(f"Heard {known}, attempt {turn.attempt}")


class Resuming(Answering):
    """The same, and a turn that was cut short is begun again; then it does not wait."""

    resumes: ClassVar[bool] = True

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        if turn.attempt > 1 and not asked(turn).endswith("for ever"):
            async with turn.say() as answer:
                answer.write(f"Answered {asked(turn)!r} at attempt {turn.attempt}")
            return
        await super().run(turn)


class Blocking(BlockingAgent):
    """Answers from a thread; asked for it, with what a pipe holds, or blocks the thread for ever."""

    let_go = threading.Event()

    def work(self, turn: BlockingTurn) -> None:
        """See BlockingAgent."""
        if asked(turn) == "for ever":
            self.let_go.wait()
            return
        verb, _, pipe = asked(turn).partition(" ")
        with turn.say() as answer:
            answer.write(Path(pipe).read_text("utf-8") if verb == "read" else "Here")


class Chatting(Agent):
    """Streams a model's answer over its own connection, as an author would write it."""

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        await self.answer(turn, [{"role": "user", "content": asked(turn)}])

    async def answer(self, turn: Turn, messages: Sequence[dict[str, str]]) -> None:
        """Have the model answer messages."""
        body = {"messages": messages, "stream": True}
        address = f"{turn.settings.llm_base_url}/chat/completions"
        async with (
            httpx.AsyncClient(timeout=None) as client,  # noqa: S113 - the turn's clocks bound it
            client.stream("POST", address, json=body) as response,
            turn.say() as answer,
        ):
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    for choice in orjson.loads(line.removeprefix("data: "))["choices"]:
                        answer.write(choice["delta"].get("content", ""))


class Counting(Agent):
    """Reports two calls of a model for each message but that which says `nothing`."""

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        if asked(turn) != "nothing":
            turn.report(Usage("gpt-x", prompt_tokens=10, completion_tokens=5, cost=0.5))
            turn.report(Usage("gpt-x", prompt_tokens=1, completion_tokens=2, cost=0.25))


class Remembering(Chatting):
    """Has a message that begins with `/` run as a command; tells the model all there was, and what that cost."""

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        if asked(turn).startswith("/"):
            await turn.act(CmdRunAction(command=asked(turn).removeprefix("/")))
        messages = [{"role": "system", "content": (turn.memory or b"").decode()}]
        for exchange in await turn.history.exchanges(Window()):
            messages += [{"role": "user", "content": one.content} for one in exchange.asked]
            for event in exchange.done:
                role = "assistant" if isinstance(event, Action) else "user"
                messages.append({"role": role, "content": getattr(event, "content", event.message)})
        await self.answer(turn, messages)
        turn.report(Usage("a-model", prompt_tokens=11, completion_tokens=7, cost=0.25))
        await turn.keep(f"I was asked {asked(turn)!r}.".encode())


class Lawless(Agent):
    """Breaks a rule of a turn, which the message names, before it answers as if it had not."""

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        text = asked(turn)
        loop = asyncio.get_running_loop()
        match text:
            case "exit":
                raise SystemExit(3)
            case "exit in a task":
                await asyncio.wait([loop.create_task(_exits())])
            case "half a character":
                async with turn.say() as answer:
                    answer.write("half \ud83d")
                    await asyncio.sleep(0)
                    answer.write(" of it")
            case "cancel all":
                for task in asyncio.all_tasks():
                    task.cancel()
                await asyncio.sleep(0)
            case "quote":
                raise RuntimeError("the provider said PLANTED-WORD")
            case "fifty":
                acts = [turn.act(CmdRunAction(command=f"echo {number}")) for number in range(50)]
                await asyncio.gather(*acts)
            case _:
                pass
        async with turn.say() as answer:
            answer.write(f"Heard {text!r}")


async def _exits() -> None:
    raise SystemExit(3)


class Narrating(Agent):
    """Tells what it is at, writes and then acts; told to fail, it does so before it acts."""

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        turn.status("Looking around")
        async with turn.say() as answer:
            for piece in ("Let ", "me ", "see."):
                answer.write(piece)
                await answer.flush()
        if asked(turn) == "fail":
            raise RuntimeError("told to")
        await turn.act(CmdRunAction(command="echo hi"))


class Careful(Agent):
    """Has its messages echoed by a command, and says what came of that."""

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        found = await turn.act(CmdRunAction(command=f"echo {asked(turn)}"))
        async with turn.say() as answer:
            answer.write(f"Got {found.kind}")


class CarefulResuming(Careful):
    """The same, and begun by a decision it says what the history has about that."""

    resumes: ClassVar[bool] = True

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        decisions = [one for one in turn.cause if isinstance(one, ChangeAgentStateAction)]
        if not decisions:
            await super().run(turn)
            return
        kinds = [event.kind async for event in turn.history.events(reverse=True)]
        async with turn.say() as answer:
            answer.write(f"After {decisions[0].agent_state}: {kinds[0]}")


class CarefulByItself(Agent):
    """Echoes its messages by itself, where a person agrees."""

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        command = f"echo {asked(turn)}"
        async with turn.doing(CmdRunAction(command=command)) as step:
            agreed = await step.agreed()
            if agreed:
                step.result(asked(turn))
        async with turn.say() as answer:
            answer.write(f"Did {command}" if agreed else "Did nothing")
