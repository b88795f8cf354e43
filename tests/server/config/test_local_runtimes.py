"""Settings of runtimes on this machine."""

import pytest
from pydantic import SecretStr

from runtime_stub.local.runtime import LocalRuntimeBuilder
from runtime_stub.stub import StubRuntimeBuilder
from server.components import load_components
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from tests.support.local_worlds import KEY, passable_folder


def test_agents_run_nothing_on_this_machine_unless_they_are_told_to():
    assert isinstance(load_components(ServerConfig()).runtimes(ServerConfig()), StubRuntimeBuilder)


def test_the_limits_of_the_settings_are_those_of_the_runtimes(caplog):
    with passable_folder() as folder:
        config = ServerConfig(
            runtime_kind="local",
            local_dir=folder / "here",
            local_processes=100,
            local_uids="5000-5001",
        )

        builder = load_components(config).runtimes(config)

    assert isinstance(builder, LocalRuntimeBuilder)
    assert builder.options.limits.processes == 100
    assert builder.options.uids == range(5000, 5002)
    assert str(folder / "here") in caplog.text


@pytest.mark.parametrize("value", ["", "1", "5-6", "5000", "6000-5000", "1000-99999999999", "a-b"])
def test_user_ids_that_are_none_or_the_systems_are_refused(value):
    with pytest.raises(ConfigError, match="local_uids"):
        ServerConfig(local_uids=value)


@pytest.mark.parametrize("name", ["SESSION_API_KEY", "session_api_key", "PARLEY_ADMIN_KEY"])
def test_a_variable_of_the_server_cannot_be_passed_on(name):
    with pytest.raises(ConfigError, match="not for commands"):
        ServerConfig(local_environment=["PATH", name])


def test_a_custom_runtime_and_the_local_one_exclude_each_other():
    with pytest.raises(ConfigError, match="runtime_class"):
        ServerConfig(runtime_kind="local", runtime_class="package.module:Class")


def test_programs_of_the_settings_need_a_key_that_commands_do_not_have():
    with pytest.raises(ConfigError, match="session_api_key"):
        ServerConfig(runtime_kind="local", mcp_stdio=True)

    key = SecretStr(KEY)
    assert ServerConfig(runtime_kind="local", mcp_stdio=True, session_api_key=key).mcp_stdio


def test_a_machine_without_bash_is_refused_in_words(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    config = ServerConfig(runtime_kind="local", local_dir=tmp_path)

    with pytest.raises(ConfigError, match="bash"):
        load_components(config).runtimes(config)
