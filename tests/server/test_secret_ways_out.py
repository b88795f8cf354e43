"""Secrets that were planted leave by no way out, and an agent and its files are given them whole."""

import asyncio
import base64
import json

import httpx
import orjson
import pytest
from hypothesis import given, strategies as st

from events.actions import CmdRunAction, FileWriteAction, MessageAction
from events.event import AgentState
from events.observations import CmdOutputObservation, FileWriteObservation
from events.redaction import MASK
from events.secret_patterns import is_weak
from tests.support.clients import joined
from tests.support.loops import Running, Scripts
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS, until

TRACE = "zq7x4vk9"
"""A word in every value, and nowhere else.

It is too long to be in sealed bytes by chance, stays as it is in JSON, in addresses and in the
words of a search index, and no quotation mark or folded letter divides it.
"""
LINE = f"{TRACE}-planted-41-line"
QUOTED = f'it\'s "{TRACE}" planted\\42'
FOREIGN = f"{TRACE}geheimnis-über-\N{KEY}43"
LONG = "\n".join(f"{TRACE}part{number}x" * 9 for number in range(44))
DOTENV = f"NODE_ENV=production\nDB_PASSWORD={TRACE}-dotenv-45\n"
PLANTED = {"LINE": LINE, "QUOTED": QUOTED, "FOREIGN": FOREIGN, "LONG": LONG, "DOTENV": DOTENV}
LLM_KEY = f"{TRACE}-llm-key-46"


async def drive(url, seen):
    """Plant secrets wherever texts go in, and note every text that comes out."""

    async def ask(method, path, **arguments):
        answer = await http.request(method, path, **arguments)
        seen.append((f"{method} {path}", answer.text))
        return answer

    async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as http:
        await ask("POST", "/api/settings", json={"llm_api_key": LLM_KEY})
        for name, value in PLANTED.items():
            answer = await ask("POST", "/api/secrets", json={"name": name, "value": value})
            assert answer.status_code == 201
        created = await ask(
            "POST",
            "/api/conversations",
            json={
                "initial_user_msg": f"{LINE} {QUOTED} {FOREIGN} {LLM_KEY}",
                "repository": f"acme/{LINE}",
                "selected_branch": LINE,
            },
        )
        one = created.json()["conversation_id"]
        path = f"/api/conversations/{one}"
        async with joined(url, one) as client:
            for said in (
                f"/write {LINE}.txt {LINE} {QUOTED}",
                f"/read {LINE}.txt",
                f"/run cat {LINE}.txt; echo $LONG; echo '$QUOTED' $FOREIGN",
                f"/run echo {'x' * 14_990}$LINE{'y' * 20_000}$FOREIGN",
                f"/edit {LINE}.txt {LINE} => {FOREIGN}",
                f"/run git init . && git checkout -b {LINE}",
                f"/run cat no-{LINE} ; {LINE} ; cd ../{LINE}",
                f"/think {LONG}",
                f"{'x' * 45}{LINE}",
                f"{'x ' * 9_990}{LINE} {'y ' * 9_000}",
                f"{DOTENV} and {TRACE}-dotenv-45 alone",
                f"data:;base64,{base64.b64encode(LINE.encode()).decode()}",
                f"/error {LINE}",
            ):
                before = client.cursor
                await client.say(said)
                wanted = "error" if said.startswith("/error") else "awaiting_user_input"
                await client.state(wanted, after=before)
            await client.send({"action": LINE, "args": {LINE: 1}})
            await client.send({"action": "message", "args": {"content": LINE, LINE: 2}})
            await ask("POST", f"{path}/message", json={"message": f"last {LINE}"})
            await ask("PATCH", path, json={"title": f"About {LINE}"})
            await ask(
                "POST", f"{path}/submit-feedback", json={"polarity": "positive", "feedback": LINE}
            )
            for target in (
                *("", "/events?limit=100", f"/events?query={TRACE}", "/trajectory", "/list-files"),
                "/stream?end=now",
                *("/git/changes", "/config", "/events/0", "/trajectory?with_screenshots=true"),
            ):
                await ask("GET", f"{path}{target}")
            text = await http.get(f"{path}/select-file", params={"file": f"{LINE}.txt"})
            seen.append(("socket", json.dumps(client.payloads, ensure_ascii=False)))
        for target in (
            *(
                "conversations",
                f"conversations?title={TRACE}",
                "settings",
                "secrets",
                "options/config",
            ),
            *("admin/conversations", "admin/usage", "admin/loops", "admin/audit", "admin/settings"),
            *("admin/usage?format=csv", "admin/overview", "admin/storage", "admin/connections"),
        ):
            await ask("GET", f"/api/{target}")

        async def searchable():
            return (await http.get("/api/search?q=last")).json()["results"]

        await until(searchable)
        await ask("GET", "/api/search?q=last")
        await ask("GET", f"/api/search?q={TRACE}&prefix=true")
        await ask("GET", "/metrics")
        await ask("GET", "/server_info")
    return text.json()["code"]


@pytest.mark.parametrize("storage", ["memory", "sqlite", "local"])
async def test_nothing_that_was_planted_leaves_by_any_way_out(tmp_path, storage):
    seen: list[tuple[str, str]] = []
    arguments = ("--storage", storage)
    # Files of a workspace are kept as the agent wrote them, secrets included: see decision 0107.
    environment = {
        "PARLEY_LOG_LEVEL": "debug",
        "PARLEY_WORKSPACE_MAX_FILES": "0",
        "PARLEY_SEARCH_DIR": str(tmp_path / "index"),
    }
    async with server_process(tmp_path, *arguments, environment=environment) as server:
        code = await drive(server.url, seen)
        await server.stop()

    seen.append(("log", server.stderr.decode()))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    seen += [(str(file), file.read_bytes().decode("latin-1")) for file in files]
    in_base64 = base64.b64encode(LINE.encode()).decode()[:-2]
    assert [where for where, text in seen if TRACE in text or in_base64 in text] == []
    assert code == f"{FOREIGN} {QUOTED}"
    events = next(text for where, text in seen if where.endswith("/trajectory"))
    assert events.count(MASK) > 30


async def given_to_agent_and_file(text, values):
    """Return the text an agent is told, that of its file, and the one that is stored."""
    agent = Listening(
        FileWriteAction(path="f", content=text),
        CmdRunAction(command="cat f"),
        MessageAction(content=text),
    )
    async with Running(agent) as one:
        one.stream.update_secrets({str(place): value for place, value in enumerate(values)})
        said = await one.say(text)
        await one.state(AgentState.AWAITING_USER_INPUT, said)
        stored = [orjson.loads(event.body) async for event in one.stream.search_events()]
        return agent.given, await one.runtime.read_file("f"), stored


class Listening(Scripts):
    """Keeps what it was given."""

    def __init__(self, *things):
        super().__init__(*things)
        self.given = []

    def observe(self, event):
        self.given.append(event)


VALUES = st.lists(
    st.text("aB3-\n'é", min_size=8, max_size=24).filter(
        lambda value: value.strip() == value and not is_weak(value)
    ),
    min_size=1,
    max_size=3,
)
WORDS = (
    "kind: ConfigMap\n",
    "message",
    "running",
    "content",
    " ",
    "a",
    "B3",
    "'",
    "data:;base64,AAAA",
)


@given(VALUES, st.data())
def test_masking_never_changes_what_an_agent_or_its_file_is_given(values, data):
    pieces = st.sampled_from([*values, *WORDS])
    text = "".join(data.draw(st.lists(pieces, min_size=1, max_size=6)))

    given_events, content, stored = asyncio.run(given_to_agent_and_file(text, values))

    assert content == text.encode()
    told = [event for event in given_events if isinstance(event, MessageAction)]
    assert [event.content for event in told] == [text, text]
    (write,) = [event for event in given_events if isinstance(event, FileWriteAction)]
    assert write.content == text
    (shown,) = [event for event in given_events if isinstance(event, CmdOutputObservation)]
    assert shown.content == text.removesuffix("\n")
    assert any(isinstance(event, FileWriteObservation) for event in given_events)
    holds = [value for value in values if value in text]
    plain = orjson.dumps(stored).decode()
    for value in holds:
        assert orjson.dumps(value)[1:-1].decode() not in plain
    if not holds and not any(MASK in str(one["message"]) for one in stored):
        assert [one["message"] for one in stored if one.get("action") == "message"] == [text, text]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map("".join))
def test_an_event_without_a_secret_is_stored_as_if_there_were_none(text):
    masked = asyncio.run(
        given_to_agent_and_file(text, ["zZ9-yY8-xX7", "NODE_ENV=test\nKEY=1234567"])
    )
    plain = asyncio.run(given_to_agent_and_file(text, []))

    for one in (*masked[2], *plain[2]):
        del one["timestamp"]
    assert masked[2] == plain[2]
