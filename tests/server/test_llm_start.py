"""`parley serve --agent llm`: a name for the agent's class, and what is missing said in a line."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

import orjson
import pytest

import runtime_stub.llm  # noqa: F401 - takes seconds, which no test should be charged with
from server.cli import main
from server.config.settings import ServerConfig
from tests.support.remote import remote
from tests.support.rest import rest_server
from tests.support.servers import REPOSITORY, server_process


def test_the_name_of_an_agent_stands_for_its_class(capsys):
    assert main(["config", "--agent", "llm"]) == 0
    assert orjson.loads(capsys.readouterr().out)["agent_class"] == "runtime_stub.llm:LlmAgent"


def test_a_name_that_is_none_is_refused_in_a_line(capsys):
    assert main(["config", "--agent", "teleport"]) == 2
    assert "not a class name of the form" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "scripted"),
        ({"agent_class": "llm"}, "llm"),
        ({"agent_class": "llm", "default_agent": "mine"}, "mine"),
        ({"agent_class": "tests.support.rest:ModelAgent"}, "scripted"),
    ],
)
def test_users_are_told_the_name_of_the_agent(settings, name):
    assert ServerConfig(**settings).agent_name == name


async def test_users_are_told_the_model_of_the_server_until_they_have_chosen_one():
    model = {"llm_model": "gpt-x", "llm_base_url": "http://127.0.0.1:1/v1"}
    async with rest_server(agent_class="llm", llm_api_key="sk-1234567890", **model) as rest:
        found = (await rest.ask("GET", "/api/settings")).json()
        agents = (await rest.ask("GET", "/api/options/agents")).json()

    assert {name: found[name] for name in model} == model
    assert (found["llm_api_key"], found["agent"], agents) == (None, "llm", ["llm"])
    assert found["llm_api_key_set"] is True


async def test_users_of_a_server_without_a_models_key_have_none():
    async with rest_server(agent_class="llm") as rest:
        found = (await rest.ask("GET", "/api/settings")).json()

    assert found["llm_api_key_set"] is False


async def test_without_the_extra_the_server_says_how_to_get_it(tmp_path):
    package = tmp_path / "pydantic_ai"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('there is none')\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "serve", "--agent", "llm", "--storage", "memory"),
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = await process.communicate()

    assert (process.returncode, output) == (2, b"")
    assert errors.decode().count("\n") == 1
    assert "agent_class: the agent `llm` needs the extra `llm`" in errors.decode()


@pytest.mark.parametrize(
    ("extra", "package", "model"),
    [("anthropic", "anthropic", "claude-x"), ("google", "google", "google:gemini-x")],
)
async def test_without_the_extra_of_a_provider_the_agent_says_how_to_get_it(
    tmp_path, model, extra, package
):
    shadow = tmp_path / "shadow" / package
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("raise ImportError('there is none')\n")
    environment = {"PYTHONPATH": str(shadow.parent)}
    async with (
        server_process(tmp_path, "--agent", "llm", environment=environment) as server,
        remote(server.url) as api,
    ):
        chosen = {"llm_model": model, "llm_api_key": "sk-1234567890"}
        answer = await api.client.post("/api/settings/try-model", json=chosen)
        found = answer.json()

    assert found["works"] is False
    assert f"pip install 'parley-server[llm,{extra}]'" in found["message"]
