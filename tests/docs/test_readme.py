"""The README's examples work as they stand there."""

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE
from importlib.metadata import packages_distributions

import httpx
import pytest
import pytest_asyncio

from tests.support.clients import joined
from tests.support.official import assert_installed
from tests.support.payloads import is_answer
from tests.support.readme import README, ROOT, block, started
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS

ADDRESS = "http://127.0.0.1:3000"
EXCHANGE = ["Hello", "You said: Hello"]


@pytest_asyncio.fixture
async def server(tmp_path):
    async with server_process(tmp_path / "data") as running:
        yield running


async def answer_to(text, url):
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as http:
        created = await http.post("/api/conversations", json={})
    async with joined(url, created.json()["conversation_id"]) as client:
        await client.say(text)
        return (await client.event(is_answer))["message"]


def is_message(event):
    return event.get("action") == "message"


@pytest.mark.parametrize("command", ["./scripts/serve --agent llm", "./scripts/serve"])
async def test_the_first_commands_start_the_server_where_they_say(command, tmp_path):
    assert f"```sh\n{command}\n```" in README

    async with started(command, tmp_path, PARLEY_PORT="0") as line:
        assert line.startswith("Parley is ready at http://127.0.0.1:")
        assert (tmp_path / "parley-data").is_dir()


def test_the_first_screen_has_the_picture_and_the_command_for_a_model():
    first = "\n".join(README.splitlines()[:35])

    assert "](docs/images/page.png)" in first
    assert "./scripts/serve --agent llm\n" in first


def test_what_is_installed_for_a_model_is_enough_for_an_agent_of_ones_own():
    # So scripts/setup-venv installs nothing more when the second follows the first.
    pins = {
        name: set(
            re.findall(r"^[\w.-]+==\S+", (ROOT / "requirements" / name).read_text(), re.MULTILINE)
        )
        for name in ("runtime.txt", "llm.txt", "dev.txt")
    }

    assert pins["runtime.txt"]
    assert pins["runtime.txt"] <= pins["llm.txt"] <= pins["dev.txt"]


async def test_the_own_agent_answers(tmp_path):
    source = block("python", "(Agent)")
    assert len(source.splitlines()) <= 20
    (tmp_path / "shouting.py").write_text(source)
    command = block("sh", "PARLEY_AGENT_CLASS").strip()

    async with started(command, tmp_path, PARLEY_PORT="0") as line:
        assert await answer_to("is anybody there?", line.split()[-1]) == "IS ANYBODY THERE?"


async def test_the_own_agent_may_be_named_in_the_settings_file(tmp_path):
    (tmp_path / "shouting.py").write_text(block("python", "(Agent)"))
    (setting,) = re.findall(r"`(agent_class = .*?)` in `parley.toml`", README)
    (tmp_path / "parley.toml").write_text(setting)

    async with started("./scripts/serve", tmp_path, PARLEY_PORT="0", PYTHONPATH=".") as line:
        assert await answer_to("well", line.split()[-1]) == "WELL"


@pytest.mark.parametrize("repeat", [False, True])
async def test_the_lines_with_curl_create_talk_and_read(server, repeat):
    lines = block("sh", "curl -sSf").replace(ADDRESS, server.url)
    if repeat:
        await run_lines(lines)

    accepted, log = await run_lines(lines)

    assert accepted == {"success": True, "id": accepted["id"], "duplicate": False}
    assert [event["message"] for event in log["events"] if is_message(event)] == EXCHANGE


async def run_lines(lines):
    process = await asyncio.create_subprocess_exec("sh", "-e", "-c", lines, stdout=PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    answers = []
    text = output.decode()
    while text:
        answer, end = json.JSONDecoder().raw_decode(text)
        answers.append(answer)
        text = text[end:].lstrip()
    return answers


def test_the_python_client_imports_just_the_packages_that_pip_is_told_to_install():
    # An extra would do, but pip up to 23.2 passes over one whose name is spelt in another way.
    imported = set(
        re.findall(r"^import (\w+)", block("python", "socketio.AsyncClient"), re.MULTILINE)
    )
    packages = packages_distributions()
    needed = {packages[name][0] for name in imported - sys.stdlib_module_names}
    (told,) = re.findall(r"`pip install (.*?)` installs", README)
    assert set(told.split()) == needed


@pytest.mark.parametrize("repeat", [False, True])
async def test_the_python_client_talks_and_ends(server, tmp_path, repeat):
    script = tmp_path / "talk.py"
    script.write_text(block("python", "socketio.AsyncClient").replace(ADDRESS, server.url))
    if repeat:
        await printed_by(sys.executable, script)

    lines = await printed_by(sys.executable, script)

    assert {"user: Hello", "agent: You said: Hello"} < lines
    assert any(
        re.fullmatch(r"\{'status': 'ok', 'id': \d+, 'duplicate': False\}", one) for one in lines
    )


@pytest.mark.node
@pytest.mark.parametrize("repeat", [False, True])
async def test_the_javascript_client_talks_and_ends(server, tmp_path, repeat):
    assert_installed()
    (tmp_path / "node_modules").symlink_to(ROOT / "tests" / "node" / "node_modules")
    script = tmp_path / "talk.mjs"
    script.write_text(block("js", "socket.io-client").replace(ADDRESS, server.url))
    if repeat:
        await printed_by("node", script)

    lines = await printed_by("node", script)

    assert {"user: Hello", "agent: You said: Hello"} < lines
    assert any(re.fullmatch(r"\{ status: 'ok', id: \d+, duplicate: false \}", one) for one in lines)


async def printed_by(program, script):
    """The lines a client's script printed; it has ended by itself, with success."""
    process = await asyncio.create_subprocess_exec(program, str(script), stdout=PIPE)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    return set(output.decode().splitlines())
