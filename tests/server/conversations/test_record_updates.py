"""Titles and branches are kept up beside the log, once, and never over a user's word."""

import asyncio

import pytest

from events.actions import CmdRunAction, MessageAction
from events.event import EventSource
from events.observations import CmdOutputMetadata, CmdOutputObservation
from events.page_reader import PageReader
from events.redaction import MASK
from events.stores.memory import MemoryEventStore
from events.stream import EventStream
from runtime_stub.stub import StubRuntime
from server.conversations.record_updates import (
    RecordUpdateDependencies,
    RecordUpdater,
    excerpt,
    shortened,
)
from storage.conversations.memory import MemoryConversations
from storage.conversations.metadata import ConversationMetadata, MetadataChange
from tests.support.rest import EVERY
from tests.support.waiting import WAIT_SECONDS


class Kept:
    """A conversation whose record is kept up."""

    def __init__(self, **parts):
        self.parts = RecordUpdateDependencies(**parts)
        self.records = MemoryConversations().for_user(None)
        self.runtime = StubRuntime()
        self.notices: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def __aenter__(self):
        store = MemoryEventStore()
        reader = PageReader(store, page_size=10, cache_bytes=1_000_000)
        await self.records.save_metadata(ConversationMetadata(conversation_id="c"))
        await self.runtime.connect()
        self.stream = await EventStream.open("c", store, reader)
        self.record_updates = self.begin()
        return self

    async def __aexit__(self, *error):
        await self.record_updates.close()
        await self.stream.close()

    def begin(self):
        def notify(_conversation_id, payload):
            self.notices.put_nowait(payload)

        return RecordUpdater(
            self.stream, self.records, self.runtime, notify, self.parts, titled=False
        )

    async def say(self, text, source=EventSource.USER):
        await self.stream.append(MessageAction(content=text), source)

    async def run(self, command, exit_code=0):
        await self.runtime.perform(CmdRunAction(command=command))
        metadata = CmdOutputMetadata(exit_code=exit_code)
        done = CmdOutputObservation(content="", command=command, metadata=metadata)
        await self.stream.append(done, EventSource.AGENT)

    async def settled(self):
        """Wait until what was appended is looked at and worked off."""
        await self.stream.flush()
        if self.record_updates._task is not None:
            await asyncio.wait([self.record_updates._task], timeout=WAIT_SECONDS)

    async def record(self):
        await self.settled()
        return await self.records.get_metadata("c")


async def test_the_first_message_makes_the_title_and_the_room_is_told():
    async with Kept() as kept:
        await kept.say("agents do not name it", EventSource.AGENT)
        await kept.say("  \n ")
        assert (await kept.record()).title is None

        await kept.say("Please look\nat the rocket engine of mine")
        await kept.say("Another matter")

        assert (await kept.record()).title == "Please look at the rocket engi..."
        assert (
            kept.notices.get_nowait()["conversation_title"] == "Please look at the rocket engi..."
        )
        assert kept.notices.empty()


async def test_a_message_from_before_the_loop_counts():
    async with Kept() as kept:
        await kept.record_updates.close()
        await kept.say("Early")
        kept.record_updates = kept.begin()

        assert (await kept.record()).title == "Early"


async def test_a_models_title_is_taken_and_cut():
    asked = []

    async def model(message):
        asked.append(message)
        return "  A very long title\nof many words that goes on and on and on "

    async with Kept(title_model=model) as kept:
        await kept.say("x" * 2000)

        title = (await kept.record()).title
        assert title == "A very long title of many words that goes on an..."
        assert len(title) == 50
        assert asked == ["x" * 1000 + "...(truncated)"]


async def blank(_message):
    return " \n"


async def failing(_message):
    raise RuntimeError("no model today")


async def hanging(_message):
    await asyncio.Event().wait()


@pytest.mark.parametrize("model", [blank, failing, hanging])
async def test_a_model_without_a_title_leaves_the_message_to_make_it(model):
    async with Kept(title_model=model, seconds=0.1) as kept:
        await kept.say("Hello")

        assert (await kept.record()).title == "Hello"


async def test_a_title_that_a_user_gives_meanwhile_stays():
    asked, answer = asyncio.Event(), asyncio.Event()

    async def model(_message):
        asked.set()
        await answer.wait()
        return "The model's"

    async with Kept(title_model=model) as kept:
        await kept.say("Hello")
        await asked.wait()
        await kept.records.update_metadata("c", MetadataChange(title="The user's"))
        answer.set()

        assert (await kept.record()).title == "The user's"
        assert kept.notices.empty()


async def test_a_slow_model_holds_no_append_up_and_closing_gives_it_up():
    async with Kept(title_model=hanging, seconds=60) as kept:
        await kept.say("Hello")
        await kept.say("and on")
        await kept.stream.flush()

        await kept.record_updates.close()

        assert (await kept.records.get_metadata("c")).title is None
        assert kept.stream.next_id == 2


@pytest.mark.parametrize(
    ("command", "exit_code", "branch"),
    [
        ("git checkout -b topic", 0, "topic"),
        ("cd . && GIT SWITCH topic; git switch -c topic", 0, "topic"),
        ("git checkout -b topic", 1, None),
        ("git status", 0, None),
        ("echo git", 0, None),
    ],
)
async def test_the_branch_follows_commands_that_may_have_changed_it(command, exit_code, branch):
    async with Kept() as kept:
        await kept.runtime.perform(CmdRunAction(command="git init"))

        await kept.run(command, exit_code)

        assert (await kept.record()).selected_branch == branch


async def test_a_secret_in_the_name_of_a_branch_is_masked():
    async with Kept() as kept:
        kept.stream.update_secrets({"TOKEN": "planted-value"})
        await kept.run("git init && git checkout -b fix-planted-value")

        assert (await kept.record()).selected_branch == f"fix-{MASK}"


async def test_without_a_repository_the_branch_stays():
    async with Kept() as kept:
        await kept.records.update_metadata("c", MetadataChange(selected_branch="main"))

        await kept.run("git checkout -b topic")

        assert (await kept.record()).selected_branch == "main"


async def test_what_fails_is_tried_again_at_the_next_occasion(caplog):
    async with Kept() as kept:
        await kept.runtime.perform(CmdRunAction(command="git init"))
        broken, kept.record_updates._runtime = kept.record_updates._runtime, StubRuntime()
        await kept.run("git switch -c one")
        assert (await kept.record()).selected_branch is None
        assert "cannot update the title or branch" in caplog.text

        kept.record_updates._runtime = broken
        await kept.run("git switch -c two")

        assert (await kept.record()).selected_branch == "two"


def test_a_short_message_is_its_own_title():
    assert excerpt(" Fix\tit ") == "Fix it"
    assert excerpt("x" * 30) == "x" * 30
    assert excerpt("x" * 31) == "x" * 30 + "..."


@pytest.mark.parametrize("one", ["e\u0301", "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3ff"])
def test_a_title_is_cut_between_characters(one):
    assert excerpt("x" * 29 + one) == "x" * 29 + "..."
    assert shortened("x" * 46 + one * 9) == "x" * 46 + "..."


async def test_a_message_that_cannot_be_seen_makes_no_title(rest):
    conversation_id = await rest.create(initial_user_msg="\u200b\u3164")
    await rest.wait_until_idle(conversation_id)
    await rest.ask("POST", f"{EVERY}/{conversation_id}/message", json={"message": "\u2800 \ufeff"})
    said = await rest.ask(
        "POST", f"{EVERY}/{conversation_id}/message", json={"message": "a\x00\nb"}
    )
    assert said.status_code == 200, said.text
    async with rest.application.manager.attach(conversation_id, None) as conversation:
        await conversation.stream.flush()
        task = conversation._record_updates._task
        if task is not None:
            await asyncio.wait([task], timeout=WAIT_SECONDS)

    events = (await rest.ask("GET", f"{EVERY}/{conversation_id}/events?source=user")).json()
    assert "\u200b\u3164" not in [event["message"] for event in events["events"]]
    info = (await rest.ask("GET", f"{EVERY}/{conversation_id}")).json()
    assert info["title"] == "a b"


async def test_a_conversation_is_named_by_what_its_user_says_first(rest):
    conversation_id = await rest.create(initial_user_msg="/run git init; git switch -c topic")
    await rest.wait_for(conversation_id, lambda event: event.get("observation") == "run")
    async with rest.application.manager.attach(conversation_id, None) as conversation:
        await conversation.stream.flush()
        task = conversation._record_updates._task
        if task is not None:
            await asyncio.wait([task], timeout=WAIT_SECONDS)

    info = (await rest.ask("GET", f"{EVERY}/{conversation_id}")).json()

    assert info["title"] == "/run git init; git switch -c t..."
    assert info["selected_branch"] == "topic"
