"""Secrets are nowhere in the data directory, whether the server was stopped or killed."""

import asyncio
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from events.redaction import MASK
from tests.support.servers import ServerProcess, server_process
from tests.support.waiting import WAIT_SECONDS

PLANTED = {
    "plain": "pl4nted-custom-secret-value",
    "odd": 'pl4nted "quoted" \\ back\u00fc\U0001f511 & 2nd',
    "llm": "pl4nted-llm-api-key",
    "search": "pl4nted-search-api-key",
    "sandbox": "pl4nted-sandbox-api-key",
    "mcp": "pl4nted-mcp-api-key",
    "env": "pl4nted-mcp-environment",
    "git": "pl4nted-git-host-token",
    "late": "pl4nted-late-secret-value",
    "file": "pl4nted-in-a-file-and-told-to-nobody",
}
"""The last one is no secret that the server knows of: a command puts it together in a file."""
KEY = "pl4nted-key-that-seals-everything"
SETTINGS = {
    "llm_api_key": PLANTED["llm"],
    "search_api_key": PLANTED["search"],
    "sandbox_api_key": PLANTED["sandbox"],
    "mcp_config": {
        "sse_servers": [{"url": "https://t.example", "api_key": PLANTED["mcp"]}],
        "stdio_servers": [{"name": "t", "command": "c", "env": {"KEY": PLANTED["env"]}}],
    },
}


def spellings(value: str) -> Iterator[bytes]:
    raw = value.encode()
    yield raw
    yield raw.hex().encode()
    yield json.dumps(value)[1:-1].encode()
    yield json.dumps(value, ensure_ascii=False)[1:-1].encode()
    yield json.dumps(json.dumps(value))[3:-3].encode()
    yield repr(value)[1:-1].encode()
    for encode in (b64encode, urlsafe_b64encode):
        for before in range(3):
            start, stop = -(-8 * before // 6), 8 * (before + len(raw)) // 6
            yield encode(bytes(before) + raw)[start:stop]


def finds(folder: Path, planted: dict[str, str]) -> list[str]:
    """The files of a folder that hold a planted value, in any spelling."""
    found = []
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        for name, value in planted.items():
            if any(spelling in content for spelling in spellings(value)):
                found.append(f"{name} in {path.name}")
    return found


def kept_in(folder: Path) -> dict[Path, bytes]:
    """Every file that holds records."""
    paths = [*folder.glob("*.sqlite3"), *folder.glob("*.key")]
    return {path: path.read_bytes() for path in paths if path.is_file()}


class Talk:
    """A client of one conversation of a server process."""

    def __init__(self, server: ServerProcess) -> None:
        self.client = httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS)
        self.one = ""

    async def post(self, path: str, body: object) -> dict[str, object]:
        answer = await self.client.post(path, json=body)
        assert answer.status_code < 300, answer.text
        told: dict[str, object] = answer.json()
        return told

    async def create(self) -> None:
        told = await self.post("/api/conversations", {})
        self.one = f"/api/conversations/{told['conversation_id']}"

    async def run(self, command: str) -> str:
        """The output of a command, once that is stored."""
        await self.post(f"{self.one}/message", {"message": f"/run {command}"})
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                query = "limit=100&reverse=true&include_kinds=run"
                answer = await self.client.get(f"{self.one}/events?{query}")
                for event in answer.json()["events"]:
                    told = event.get("extras", {}).get("command")
                    if told == command and "observation" in event:
                        return str(event["content"])


async def talk_of_secrets(talk: Talk) -> None:
    await talk.post("/api/settings", SETTINGS)
    for name in ("plain", "odd"):
        await talk.post("/api/secrets", {"name": name.upper(), "value": PLANTED[name]})
    await talk.post(
        "/api/add-git-providers", {"provider_tokens": {"github": {"token": PLANTED["git"]}}}
    )
    await talk.create()
    assert await talk.run('echo "$PLAIN|$ODD|$GITHUB_TOKEN"') == "|".join([MASK] * 3)
    await talk.post("/api/secrets", {"name": "LATE", "value": PLANTED["late"]})
    assert await talk.run("echo $LATE and more") == f"{MASK} and more"
    for value in PLANTED.values():
        said = f"{value}, {b64encode(b'x' + value.encode()).decode()}, {json.dumps(value)}"
        if "late" not in value and "file" not in value:
            await talk.post(f"{talk.one}/message", {"message": said})
    await talk.run("echo the end")


async def fill_workspace(talk: Talk) -> None:
    """Have commands write secrets into files, and the loop end, so that they are kept."""
    await talk.run('mkdir "of $ODD"; echo "$PLAIN|$ODD|$GITHUB_TOKEN|$LATE" > "of $ODD/$PLAIN"')
    await talk.run("echo -n pl4nted-in-a-file > whole; echo -and-told-to-nobody >> whole")
    await talk.post(f"{talk.one}/stop", {})
    shown = await talk.client.get(f"{talk.one}/workspace/download?file=whole")
    assert shown.text == f"{PLANTED['file']}\n"


@pytest.mark.parametrize(
    ("storage", "own_key"),
    [("sqlite", False), ("local", True)],
    ids=["sqlite-key-file", "local-given-key"],
)
async def test_a_planted_secret_is_found_nowhere_after_a_stop_and_after_a_kill(
    tmp_path, storage, own_key
):
    data_dir = tmp_path / "data"
    environment = {"PARLEY_SECRET_KEY": KEY} if own_key else {}
    planted = PLANTED | {"key": KEY}

    async with server_process(data_dir, "--storage", storage, environment=environment) as server:
        talk = Talk(server)
        await talk_of_secrets(talk)
        await fill_workspace(talk)
        assert finds(data_dir, planted) == []
        assert await server.stop() == 0
        assert finds(data_dir, planted) == []
        await server.start()
        assert await talk.run('echo "$PLAIN|$LATE" again') == f"{MASK}|{MASK} again"
        await talk.post("/api/settings", {"language": "de"})
        await server.kill()
        await talk.client.aclose()

    assert finds(data_dir, planted) == []
    assert not any(value.encode() in server.stderr for value in planted.values())
    assert (data_dir / "secret.key").exists() is not own_key


def test_the_search_finds_what_is_planted(tmp_path):
    raw = b"x" + PLANTED["plain"].encode()
    for name, content in {"a": raw, "b": b64encode(raw), "c": json.dumps(PLANTED).encode()}.items():
        (tmp_path / name).write_bytes(content)

    found = finds(tmp_path, PLANTED)

    assert {f"plain in {name}" for name in "abc"} <= set(found)
    assert "odd in c" in found


async def test_a_server_with_another_key_says_so_in_one_line_and_changes_nothing(tmp_path):
    first, second = {"PARLEY_SECRET_KEY": KEY}, {"PARLEY_SECRET_KEY": KEY[::-1]}
    async with server_process(tmp_path, environment=first) as server:
        talk = Talk(server)
        await talk.post("/api/secrets", {"name": "PLAIN", "value": PLANTED["plain"]})
        await talk.client.aclose()
        assert await server.stop() == 0
    before = kept_in(tmp_path)

    for environment in (second, {}):
        refused = ServerProcess(tmp_path, environment=environment)
        with pytest.raises(AssertionError, match="no ready line"):
            await refused.start()
        (line,) = refused.stderr.decode().splitlines()
        assert line.startswith("parley: ")
        assert "PARLEY_SECRET_KEY" in line
        assert KEY[::-1] not in line

    assert kept_in(tmp_path) == before
    async with server_process(tmp_path, environment=first) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
            assert (await client.get("/api/secrets")).json()["custom_secrets"]
        assert await server.stop() == 0
