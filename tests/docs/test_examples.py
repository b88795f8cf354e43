"""The examples of docs/examples work as they stand there, as scripts and as named classes."""

import asyncio
import re
import subprocess
import sys
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import httpx
import pytest

from storage.conformance import ConversationSearchSuite, ConversationStoreSuite
from tests.support.clients import joined
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
AGENTS = (EXAMPLES.parent / "agents.md").read_text(encoding="utf-8")
SHOWN = dict(
    re.findall(
        r"^### \[(\w+\.py)\]\(examples/\1\)$.*?^```python\n(.*?)^```$",
        AGENTS.split("## Examples")[1].split("## A turn")[0],
        re.MULTILINE | re.DOTALL,
    )
)
THIRD_PARTY = """
from contextlib import asynccontextmanager

from json_store import JsonBook
from storage.conformance import ConversationStoreSuite


class TestJsonStore(ConversationStoreSuite):
    @asynccontextmanager
    async def open(self, folder):
        yield JsonBook.at(folder / "records.json")
"""

SETTINGS = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"


def example(name):
    found = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


JSON_STORE = example("json_store")


class OpenBook:
    """A book that is there from the beginning and needs no closing."""

    def __init__(self, folder):
        self.folder = folder

    async def __aenter__(self):
        return JSON_STORE.JsonBook(self.folder / "records.json")

    async def __aexit__(self, *error):
        pass


class TestJsonStore(ConversationStoreSuite):
    def open(self, folder):
        return OpenBook(folder)


class TestJsonStoreSearch(ConversationSearchSuite):
    def open(self, folder):
        return OpenBook(folder)


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(EXAMPLES)},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


def test_the_usage_example_runs_as_a_script_and_exits_by_itself(tmp_path):
    script = str(EXAMPLES / "embedded.py")

    outcome = run("-W", "error", script, str(tmp_path / "data"), cwd=tmp_path)

    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr == ""
    lines = outcome.stdout.splitlines()
    assert lines[0] == "Code Review Task: valid True, 1 listed"
    assert lines[1] == "0 user: Hello"
    assert lines[-1].endswith("agent: Command `echo done` executed with exit code 0.")


def test_a_project_of_somebody_else_holds_its_store_to_the_contract(tmp_path):
    (tmp_path / "test_json_store.py").write_text(THIRD_PARTY)
    (tmp_path / "pytest.ini").write_text(SETTINGS)

    outcome = run("-m", "pytest", "-q", "-p", "no:randomly", "-W", "error", cwd=tmp_path)

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert " passed" in outcome.stdout
    assert "skipped" not in outcome.stdout


async def test_a_server_keeps_its_records_where_the_own_class_keeps_them(tmp_path):
    settings = {
        "PARLEY_CONVERSATION_STORE_CLASS": "json_store:JsonConversationStore",
        "PYTHONPATH": str(EXAMPLES),
    }
    data_dir = tmp_path / "data"
    async with server_process(data_dir, environment=settings) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http:
            body = {"initial_user_msg": "/cost 2"}
            created = (await http.post("/api/conversations", json=body)).json()
            one = f"/api/conversations/{created['conversation_id']}"
            async with joined(server.url, created["conversation_id"]) as client:
                await client.event(lambda event: event.get("source") == "agent")
            assert await http.patch(one, json={"title": "Kept"})
        assert await server.stop() == 0
        await server.start()
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http:
            listed = (await http.get("/api/conversations?title=kept")).json()["results"]
            assert [info["title"] for info in listed] == ["Kept"]
            assert listed[0]["last_updated_at"] is not None
            assert (await http.delete(one)).json() is True
            assert (await http.get("/api/conversations")).json()["results"] == []
    assert '"spent": ["' in (data_dir / "records.json").read_text()


async def test_the_own_agent_keeps_and_reads_notes(tmp_path):
    settings = {
        "PARLEY_AGENT_CLASS": "notes_agent:NotesAgent",
        "PYTHONPATH": str(EXAMPLES),
    }
    async with server_process(tmp_path / "data", environment=settings) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as http:
            created = (await http.post("/api/conversations", json={})).json()
        async with joined(server.url, created["conversation_id"]) as client:
            for said, answer in (
                ("notes", "That did not work"),
                ("note it's raining", "Noted."),
                ("notes", "it's raining"),
                ("hello", "Write `note TEXT`"),
            ):
                await client.say(said)
                await client.event(answered(answer))


def test_the_page_of_agents_shows_five_of_them():
    assert len(SHOWN) == 5
    assert all(f"]({EXAMPLES.name}/{name}) |" in AGENTS for name in SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_what_the_page_shows_of_an_example_stands_in_its_file(name):
    lines = (EXAMPLES / name).read_text(encoding="utf-8").splitlines(keepends=True)
    shown = SHOWN[name]
    number = shown.count("\n")

    parts = (lines[place : place + number] for place in range(len(lines) - number + 1))
    assert shown in {textwrap.dedent("".join(part)) for part in parts}


def answered(text):
    def fits(event):
        return event.get("action") == "message" and event["message"].startswith(text)

    return fits


async def test_books_of_two_event_loops_do_not_mix(tmp_path):
    here = JSON_STORE.JsonBook.at(tmp_path / "records.json")

    async def elsewhere():
        return JSON_STORE.JsonBook.at(tmp_path / "records.json")

    assert here is JSON_STORE.JsonBook.at(tmp_path / "records.json")
    assert here is not await asyncio.to_thread(asyncio.run, elsewhere())
