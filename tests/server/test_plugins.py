"""Classes by their names: what is taken, and how what cannot be used is told."""

import asyncio

import pytest

from server.cli import main
from server.components import load_class, load_components
from server.config.settings import Extensions, ServerConfig
from server.config.sources import ConfigError
from tests.support.clients import ConnectRefused
from tests.support.extensions import (
    CountingManager,
    ForgettingRuntimeBuilder,
    HeaderAuth,
    RecordingListener,
)
from tests.support.live import live_server
from tests.support.rest import EVERY, assert_refused, rest_server
from tests.support.waiting import WAIT_SECONDS

HERE = "tests.support.extensions"
HEADER = "x-forwarded-user"


@pytest.mark.parametrize("setting", Extensions.model_fields)
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_module:Thing", "cannot import no_such_module:Thing: ModuleNotFoundError"),
        (f"{HERE}:Missing", f"cannot import {HERE}:Missing: AttributeError"),
        (f"{HERE}:NOT_A_CLASS", "is not a subclass of"),
        ("builtins:dict", "is not a subclass of"),
        ("not a name", "not a name"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line_and_exit_code_2(
    setting, name, why, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv(f"PARLEY_{setting.upper()}", name)
    monkeypatch.setenv("PARLEY_PORT", "0")
    monkeypatch.chdir(tmp_path)

    code = main(["serve", "--storage", "memory"])

    written = capsys.readouterr()
    assert code == 2
    assert written.out == ""
    assert written.err.count("\n") == 1
    assert setting in written.err.lower()
    if name != "not a name":
        assert why in written.err


def test_a_class_that_leaves_something_open_is_refused_with_what():
    with pytest.raises(ConfigError, match=r"user_auth_class: .* does not implement .*: another"):
        load_components(ServerConfig(user_auth_class=f"{HERE}:HalfAuth"))


async def test_examples_that_are_none_are_refused_at_the_start():
    with pytest.raises(ConfigError, match=r"agent_class: .*`examples`.*runtime_stub\.Example"):
        async with rest_server(agent_class=f"{HERE}:MistakenAgent"):
            raise AssertionError


async def test_a_class_that_cannot_be_made_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"runtime_class: .*no daemon"):
        async with rest_server(runtime_class=f"{HERE}:FailingRuntimeBuilder"):
            raise AssertionError


def test_a_dot_before_the_class_is_taken_as_well():
    assert load_class("x", f"{HERE}.HeaderAuth", HeaderAuth, HeaderAuth) is HeaderAuth
    assert load_class("x", None, HeaderAuth, HeaderAuth) is HeaderAuth


def test_check_names_a_class_that_cannot_be_used(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARLEY_RUNTIME_CLASS", "no_such:Thing")

    assert main(["check"]) == 1

    assert "classes: runtime_class: cannot import no_such:Thing" in capsys.readouterr().out


async def test_an_own_runtime_carries_out_what_the_agent_does():
    async with rest_server(runtime_class=f"{HERE}:GreetingRuntimeBuilder") as rest:
        conversation_id = await rest.create()
        await rest.wait_until_idle(conversation_id)

        answer = await rest.ask("GET", f"{EVERY}/{conversation_id}/select-file?file=welcome.txt")

        assert answer.json() == {"code": conversation_id}


@pytest.mark.parametrize("fails", [False, True])
async def test_a_runtime_is_forgotten_before_the_records_of_its_conversation_are_gone(fails):
    states = []

    async def forgetting(conversation_id):
        states.append((await rest.events.head(conversation_id)).deleted)
        answer = await rest.ask("GET", f"{EVERY}/{conversation_id}")
        states.append(answer.json()["conversation_id"] == conversation_id)
        if fails:
            raise RuntimeError("the sandbox cannot be reached")

    ForgettingRuntimeBuilder.forgetting = forgetting
    async with rest_server(runtime_class=f"{HERE}:ForgettingRuntimeBuilder") as rest:
        conversation_id = await rest.create()

        answer = await rest.ask("DELETE", f"{EVERY}/{conversation_id}")

        assert (answer.status_code, states) == (200, [False, True])
        assert (await rest.events.head(conversation_id)).deleted
        assert (await rest.ask("GET", f"{EVERY}/{conversation_id}")).json() is None


async def test_an_agent_that_cannot_be_made_is_a_visible_error():
    async with live_server(agent_class=f"{HERE}:UnwillingAgent") as live:
        async with live.joined(await live.new()) as client:
            failed = await client.state("error")

        assert failed["extras"]["reason"] == "AGENT_ERROR$FAILED: RuntimeError"


async def test_an_own_manager_is_asked():
    before = CountingManager.joins
    async with (
        live_server(conversation_manager_class=f"{HERE}:CountingManager") as live,
        live.joined(await live.new()),
    ):
        pass

    assert CountingManager.joins == before + 1


async def test_a_listener_is_told_of_sessions_events_and_loops():
    RecordingListener.told.clear()
    async with rest_server(monitoring_listener_class=f"{HERE}:RecordingListener") as rest:
        conversation_id = await rest.create(initial_user_msg="hello")
        await rest.wait_until_idle(conversation_id)
        await rest.ask("POST", f"{EVERY}/{conversation_id}/stop")
        next_id = (await rest.events.head(conversation_id)).next_id

    told = RecordingListener.told
    assert told[0] == ("session", conversation_id, None)
    assert [one[2] for one in told if one[0] == "event"] == list(range(next_id))
    assert ("start", conversation_id, True, True) in told
    assert ("stop", conversation_id) in told


async def test_a_listener_that_fails_is_logged_and_changes_nothing(caplog):
    async with rest_server(monitoring_listener_class=f"{HERE}:FailingListener") as rest:
        conversation_id = await rest.create(initial_user_msg="hello")
        await rest.wait_until_idle(conversation_id)

    assert caplog.text.count("the monitoring listener failed") > 3
    assert "RuntimeError: event" in caplog.text


async def test_users_who_are_told_apart_see_only_their_own():
    async with rest_server(user_auth_class=f"{HERE}:HeaderAuth") as rest:
        ann, bob = {HEADER: "ann"}, {HEADER: "bob"}
        created = await rest.ask("POST", EVERY, json={}, headers=ann)
        one = f"{EVERY}/{created.json()['conversation_id']}"

        assert len((await rest.ask("GET", EVERY, headers=ann)).json()["results"]) == 1
        assert (await rest.ask("GET", EVERY, headers=bob)).json()["results"] == []
        assert (await rest.ask("GET", one, headers=bob)).json() is None
        assert_refused(
            await rest.ask("PATCH", one, json={"title": "x"}, headers=bob),
            404,
            "conversation_not_found",
        )
        assert (await rest.ask("GET", one, headers=ann)).json()["conversation_id"]


async def test_whoever_is_refused_or_cannot_be_told_apart_gets_nothing(caplog):
    async with rest_server(user_auth_class=f"{HERE}:HeaderAuth") as rest:
        assert_refused(await rest.ask("GET", EVERY), 401, "unauthorized", "Nobody known asks")
        unfit = await rest.ask("GET", EVERY, headers={HEADER: "unfit"})
        assert_refused(unfit, 401, "unauthorized", "not acceptable")
        broken = await rest.ask("GET", EVERY, headers={HEADER: "broken"})
        assert_refused(broken, 503, "not_available", "The user cannot be identified")
        assert "planned" in caplog.text
        assert (await rest.ask("GET", "/alive")).status_code == 200


async def test_a_connection_of_nobody_known_is_refused():
    async with live_server(user_auth_class=f"{HERE}:HeaderAuth") as live:
        conversation_id = await live.new("ann")

        with pytest.raises(ConnectRefused, match="Nobody known asks"):
            async with asyncio.timeout(WAIT_SECONDS), live.joined(conversation_id):
                raise AssertionError
