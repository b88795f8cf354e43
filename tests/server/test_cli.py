"""The parley command, as a process and by its entry point."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from events.conformance.records import append, records
from events.stores.database.store import DatabaseEventStore
from server.cli import main
from storage.backends.base import OpenedDatabase
from storage.config import SqliteStorage
from storage.conversations.metadata import ConversationMetadata
from storage.opening import open_storage
from tests.support.commands import run_on_terminal, run_parley
from tests.support.servers import REPOSITORY


@pytest.fixture
def intruder(tmp_path):
    """A folder in which a distribution has installed a package named events."""
    folder = tmp_path / "site"
    information = folder / "intruder-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: intruder\nVersion: 1.0\n")
    (information / "RECORD").write_text("events/__init__.py,,\n")
    (folder / "events").mkdir()
    (folder / "events" / "__init__.py").write_text("")
    return folder


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["serve", "--port", "70000"], "--port"),
        (["serve", "--port", "many"], "--port"),
        (["serve", "--storage", "paper"], "--storage"),
        (["serve", "--host", "192.0.2.1"], "--host"),
        (["serve", "--ui-dir", "/no/such/directory"], "--ui-dir"),
        (["serve", "--config", "/no/such/file"], "/no/such/file"),
        (["serve", "--prot", "1"], "--prot"),
        (["serve", "surplus"], "surplus"),
        (["sing"], "sing"),
    ],
)
def test_a_bad_command_line_is_one_line_that_names_it_and_exit_code_2(arguments, named, capsys):
    code = main(arguments)

    written = capsys.readouterr()
    assert code == 2
    assert written.out == ""
    assert named in written.err
    assert written.err.count("\n") == 1


def test_a_bad_variable_is_one_line_that_names_it_and_exit_code_2(tmp_path):
    outcome = run_parley("serve", cwd=tmp_path, PARLEY_MAX_ITERATIONS="none")

    assert outcome.returncode == 2
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("parley: PARLEY_MAX_ITERATIONS: ")
    assert outcome.stderr.count("\n") == 1


def test_config_prints_the_effective_settings_with_secrets_masked(tmp_path):
    (tmp_path / "parley.toml").write_text("port = 1\npage_size = 2")

    outcome = run_parley("config", cwd=tmp_path, PARLEY_PORT="3", SESSION_API_KEY="sesame")

    shown = json.loads(outcome.stdout)
    assert (shown["port"], shown["page_size"]) == (3, 2)
    assert shown["session_api_key"] == "**********"
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_check_finds_a_sound_installation_sound_and_creates_nothing(tmp_path):
    outcome = run_parley("check", "--data-dir", "kept", cwd=tmp_path)

    assert outcome.stdout.splitlines() == [
        "settings: ok",
        "packaging: ok",
        "classes: ok",
        "storage: no data in kept yet: it does not exist",
    ]
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_check_names_what_is_damaged_of_a_log_of_local_files(tmp_path):
    log = tmp_path / "kept" / "files" / "logs" / "c"
    log.mkdir(parents=True)
    (log / "head").write_bytes(b"no head")

    outcome = run_parley("check", "--storage", "local", "--data-dir", "kept", cwd=tmp_path)

    assert outcome.returncode == 1
    assert "storage: damaged records 0-0 in conversation c: the head\n" in outcome.stdout


def test_check_shows_on_a_terminal_how_far_it_has_come(tmp_path):
    asyncio.run(fill(tmp_path / "kept"))
    outcome, shown = run_on_terminal("check", "--data-dir", "kept", cwd=tmp_path)

    assert "storage: ok, 1 conversations, 1 events in parley.sqlite3\n" in outcome.stdout
    assert outcome.returncode == 0
    assert b"records" in shown
    assert b"events" in shown
    assert b"1/1" in shown


async def fill(folder):
    async with open_storage(SqliteStorage(data_dir=folder)) as storage:
        assert isinstance(storage, OpenedDatabase)
        record = ConversationMetadata(conversation_id="c")
        await storage.conversations.for_user(None).save_metadata(record)
        await append(DatabaseEventStore(storage.database), "c", records(0, 1))


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize(
    ("left", "arguments", "named"),
    [
        ("parley.sqlite3", ["--storage", "local"], "start with --storage sqlite"),
        ("sessions/abc/metadata.json", [], "of an OpenHands V0 server"),
    ],
)
def test_data_of_another_storage_or_server_is_refused_in_one_line(
    command, left, arguments, named, tmp_path, capsys
):
    (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left).touch()
    before = sorted(tmp_path.rglob("*"))

    code = main([command, "--port", "0", "--data-dir", str(tmp_path), *arguments])

    written = capsys.readouterr()
    assert code == (1 if command == "check" else 2)
    told = written.out if command == "check" else written.err
    (line,) = [one for one in told.splitlines() if named in one]
    assert line.startswith("storage: " if command == "check" else "parley: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_check_names_a_distribution_that_brings_one_of_our_packages(intruder, tmp_path):
    outcome = run_parley("check", cwd=tmp_path, PYTHONPATH=f"{REPOSITORY}{os.pathsep}{intruder}")

    assert outcome.returncode == 1
    assert "package events also belongs to the distribution intruder" in outcome.stdout


def test_a_package_that_stands_before_ours_is_named_and_hides_nothing(intruder, tmp_path):
    outcome = run_parley("check", cwd=tmp_path, PYTHONPATH=f"{intruder}{os.pathsep}{REPOSITORY}")

    assert outcome.returncode == 1
    assert "package events also belongs to the distribution intruder" in outcome.stdout
    assert outcome.stderr == ""


@pytest.mark.parametrize(
    ("name", "package"),
    [("server", True), ("events", False), ("storage", True), ("runtime_stub", False)],
)
def test_what_a_user_has_under_a_name_of_ours_is_not_in_the_way(tmp_path, name, package):
    if package:
        (tmp_path / name).mkdir()
    source = tmp_path / (f"{name}/__init__.py" if package else f"{name}.py")
    source.write_text("raise ImportError('not this one')\n")
    (tmp_path / "shouting.py").write_text(
        "from runtime_stub.scripted import ScriptedAgent\n\n\nclass Shouting(ScriptedAgent):\n    pass\n"
    )
    command = [str(Path(sys.executable).with_name("parley")), "check"]

    for path in ("", "."):
        environ = {**os.environ, "PYTHONPATH": path} | (
            {"PARLEY_AGENT_CLASS": "shouting:Shouting"} if path else {}
        )
        outcome = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )

        assert (outcome.returncode, outcome.stderr) == (0, "")
        assert "classes: ok\n" in outcome.stdout


def test_a_port_in_use_is_named_with_what_to_do(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        outcome = run_parley("serve", "--port", str(port), "--storage", "memory", cwd=tmp_path)

    assert outcome.returncode == 2
    assert outcome.stdout == ""
    assert f"127.0.0.1:{port}: the port is in use" in outcome.stderr
    assert "--port" in outcome.stderr
    assert "Errno" not in outcome.stderr


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("no-such-host.invalid", "no such host"),
        ("192.0.2.1", "not an address of this machine"),
        ("2001:db8::1", "not an address of this machine"),
        ("b\u00fccher..invalid", "no such host"),
        ("x" * 300, "no such host"),
        ("fe80::1", "fe80::1%eth0"),
    ],
)
def test_a_host_that_cannot_be_listened_at_is_named_with_what_to_do(tmp_path, host, reason):
    outcome = run_parley(
        *("serve", "--host", host, "--insecure", "--port", "0", "--storage", "memory"),
        cwd=tmp_path,
    )

    assert outcome.returncode == 2
    assert host in outcome.stderr
    assert reason in outcome.stderr
    assert "--host" in outcome.stderr
    assert "Errno" not in outcome.stderr


@pytest.mark.parametrize("name", ["shouting", "shouting:", "a b:C", "1:C", "a:b:C"])
def test_a_class_that_is_not_written_as_one_is_refused_with_the_form(tmp_path, name):
    outcome = run_parley("check", cwd=tmp_path, PARLEY_AGENT_CLASS=name)

    assert outcome.returncode == 2
    assert outcome.stderr == (
        "parley: PARLEY_AGENT_CLASS: not a class name of the form package.module:Class\n"
    )


def test_help_tells_what_the_options_do(capsys):
    code = main(["serve", "--help"])

    assert code == 0
    assert "--data-dir" in capsys.readouterr().out
