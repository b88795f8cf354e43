"""ServerConfig: its sources, their order, and what is refused."""

import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ConfigDict, SecretStr

from server.config.settings import LONGEST_SECONDS, ServerConfig
from server.config.sources import ConfigError
from storage.config import CloudStorage, LocalStorage, MemoryStorage, SqliteStorage
from tests.support.rest import EVERY
from tests.support.servers import server_process
from tests.support.waiting import WAIT_SECONDS


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = 1
    name: str = "none"


class GroupedConfig(ServerConfig):
    group: Group = Group()


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return path

    return write


def refusal(**sources):
    with pytest.raises(ConfigError) as caught:
        ServerConfig.load(**{"environ": {}, **sources})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_plain_arguments_read_no_other_source(monkeypatch):
    monkeypatch.setenv("PARLEY_PORT", "1")

    assert ServerConfig(data_dir=Path("kept")).port == 3000


def test_the_process_environment_is_read_when_no_other_is_given(monkeypatch):
    monkeypatch.setenv("PARLEY_PORT", "1")

    assert ServerConfig.load().port == 1


def test_the_command_line_beats_the_environment_beats_the_file_beats_the_default(toml):
    path = toml("host = 'localhost'\nport = 1\npage_size = 7")
    environ = {"PARLEY_HOST": "::1", "PARLEY_PORT": "2"}

    config = ServerConfig.load({"port": 3, "host": None}, environ, path)

    assert ServerConfig(host="[::1]").host == "::1"
    assert (config.port, config.host, config.page_size, config.max_iterations) == (3, "::1", 7, 500)


def test_a_file_may_begin_with_a_byte_order_mark(toml):
    assert ServerConfig.load(environ={}, toml_path=toml("\ufeffport = 4")).port == 4


def test_the_file_is_named_by_argument_else_by_variable_else_found_in_place(toml, tmp_path):
    named = toml("port = 1")
    argument = tmp_path / "argument.toml"
    argument.write_text("port = 2")
    environ = {"PARLEY_CONFIG": str(named)}

    assert ServerConfig.load(environ=environ).port == 1
    assert ServerConfig.load(environ=environ, toml_path=argument).port == 2
    assert ServerConfig.load(environ={}).port == 3000


def test_a_file_in_the_working_directory_is_read(tmp_path):
    (tmp_path / "parley.toml").write_text("port = 4")

    with contextlib.chdir(tmp_path):
        config = ServerConfig.load(environ={})

    assert config.port == 4


def test_the_ancestors_plain_variables_are_read_and_the_prefixed_ones_win():
    plain = {
        "SESSION_API_KEY": "sesame",
        "PERMITTED_CORS_ORIGINS": "https://A.example/, http://b:1",
        "SERVE_FRONTEND": "false",
        "ALLOW_SET_CONVERSATION_ID": "1",
    }

    config = ServerConfig.load(environ={**plain, "PARLEY_SESSION_API_KEY": "other"})

    assert config.session_api_key == SecretStr("other")
    assert config.permitted_cors_origins == ["https://a.example", "http://b:1"]
    assert not config.serve_frontend
    assert config.allow_set_conversation_id


def test_an_empty_variable_counts_as_not_set():
    config = ServerConfig.load(environ={"PARLEY_PORT": "", "SESSION_API_KEY": ""})

    assert (config.port, config.session_api_key) == (3000, None)


def test_groups_are_joined_setting_by_setting(toml):
    path = toml("[group]\nsize = 2\nname = 'file'")

    config = GroupedConfig.load(environ={"PARLEY_GROUP__SIZE": "3"}, toml_path=path)

    assert config.group == Group(size=3, name="file")


@pytest.mark.parametrize(
    "name", ["PARLEY_PROT", "PARLEY_PORT__X", "PARLEY_port", "PARLEY_STORAGE_KIND", "PARLEY_"]
)
def test_an_unknown_variable_is_named(name):
    assert refusal(environ={name: "1"}) == f"unknown setting {name} in the environment"


def test_an_unknown_name_in_the_file_is_named(toml):
    path = toml("storage_kind = 'memory'")

    assert refusal(toml_path=path) == f"unknown setting storage_kind in {path}"


def test_an_unknown_argument_is_named():
    arguments: dict[str, Any] = {"prot": 1}

    with pytest.raises(ConfigError, match="prot: unknown setting"):
        ServerConfig(**arguments)


@pytest.mark.parametrize(
    "content",
    [
        b"port = ",
        b"port = 1\nport = 2",
        b"\xff",
        b"port = " + b"9" * 5000,
        b"port = " + b"[" * 5000,
    ],
)
def test_a_file_that_is_not_toml_is_named(content, tmp_path):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)

    assert refusal(toml_path=path).startswith(f"{path}: ")


def test_a_named_file_that_does_not_exist_is_refused(tmp_path):
    assert refusal(toml_path=tmp_path / "none").endswith("none: No such file or directory")


def test_a_bad_value_is_named_as_its_source_spells_it(toml):
    path = toml("page_size = 0")

    refused = refusal(
        overrides={"port": 65536}, environ={"PARLEY_STORAGE": "paper"}, toml_path=path
    )

    assert refused.startswith("--port: Input should be less than or equal to 65535; ")
    assert (
        "PARLEY_STORAGE: Input should be 'sqlite', 'local', 'postgres', 'cloud' or 'memory'"
        in refused
    )
    assert f"page_size in {path}: " in refused


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", ""),
        ("host", "a\0b"),
        ("data_dir", "a\0b"),
        ("ui_dir", "a\0b"),
        ("ui_dir", "/no/such/directory"),
        ("ui_dir", "a" * 300),
        ("permitted_cors_origins", ["*"]),
        ("permitted_cors_origins", "https://a.example/path"),
        ("permitted_cors_origins", "https://a.example:99999"),
        ("permitted_cors_origins", "https://a_b.example:port"),
        ("permitted_cors_origins", "a.example"),
        ("permitted_cors_origins", "http://127.1"),
        ("permitted_cors_origins", "http://0x7f000001:80"),
        ("permitted_hosts", "192.168.1"),
        ("permitted_hosts", ["https://a.example"]),
        ("permitted_hosts", "a.example/path"),
        ("permitted_hosts", "*.example"),
        ("permitted_hosts", "a.example:99999"),
        ("permitted_hosts", "chat\udcff.example"),
        ("permitted_hosts", ["a.example", "chat\udcff.example"]),
        ("permitted_cors_origins", "https://chat\udcff.example"),
        ("trusted_proxies", "10.0.0.\udcff"),
        ("log_level", "lo\udcffud"),
        ("agent_class", "nocolon"),
        ("shutdown_seconds", "inf"),
        ("max_budget_per_task", "nan"),
        ("close_delay_seconds", -1),
        ("log_level", "loud"),
        ("session_api_key", ""),
    ],
)
def test_a_value_out_of_bounds_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"^{name}: "):
        ServerConfig(**{name: value})


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.10", "::1", "[::1]", "localhost", "LOCALHOST"]
)
def test_a_loopback_address_needs_no_key(host):
    assert ServerConfig(host=host).keyless


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "chat.example.org", "localhost.x"])  # noqa: S104
def test_any_other_address_demands_a_key_or_an_explicit_waiver(host):
    assert "session_api_key" in refusal(overrides={"host": host})
    assert "--insecure" in refusal(overrides={"host": host})
    assert ServerConfig(host=host, insecure=True).host == host
    assert ServerConfig(host=host, session_api_key=SecretStr("sesame")).host == host


def test_a_secret_is_never_shown():
    config = ServerConfig(session_api_key=SecretStr("sesame"))

    assert "sesame" not in f"{config!r} {config} {config.masked()}"
    assert config.masked()["session_api_key"] == "**********"


def test_a_refused_secret_is_not_shown_either(toml):
    path = toml("session_api_key = ['sesame']\nport = 'sesame'")

    assert "sesame" not in refusal(toml_path=path)


def test_the_storage_setting_chooses_the_medium(tmp_path):
    assert ServerConfig(storage_kind="memory").storage == MemoryStorage()
    local = ServerConfig(storage_kind="local", data_dir=tmp_path)
    assert local.storage == LocalStorage(data_dir=tmp_path)
    assert ServerConfig(data_dir=tmp_path).storage == SqliteStorage(data_dir=tmp_path)


CLOUD = {
    "PARLEY_STORAGE": "cloud",
    "PARLEY_CLOUD_URL": "s3://bucket/folder",
    "PARLEY_SECRET_KEY": "a long and random text",
    "PARLEY_CLOUD_OPTIONS": '{"secret_access_key": "sesame"}',
}


def test_a_bucket_is_named_by_its_url_and_its_credentials_are_shown_nowhere():
    config = ServerConfig.load(environ=CLOUD)

    storage = config.storage
    assert isinstance(storage, CloudStorage)
    assert (storage.url, storage.lease_seconds) == ("s3://bucket/folder", 6.0)
    assert "sesame" not in f"{config!r} {config} {config.masked()} {storage!r}"


def test_the_options_of_a_bucket_are_a_table_in_the_file(toml):
    path = toml('[cloud_options]\nendpoint = "https://s3.example.org"\nallow_http = false')

    options = ServerConfig.load(environ={}, toml_path=path).cloud_options

    assert options is not None
    assert json.loads(options.get_secret_value()) == {
        "endpoint": "https://s3.example.org",
        "allow_http": False,
    }


@pytest.mark.parametrize("missing", ["PARLEY_CLOUD_URL", "PARLEY_SECRET_KEY"])
def test_a_bucket_without_its_url_or_a_key_is_refused(missing):
    environ = {name: value for name, value in CLOUD.items() if name != missing}

    assert missing in refusal(environ=environ)


@pytest.mark.parametrize(
    "url",
    [
        "bucket",
        "s3://",
        "s3:///folder",
        "https://bucket.s3.example.org/folder",
        "s3://key:sesame@bucket/folder",
        "s3://bucket/folder?secret=sesame",
    ],
)
def test_an_url_that_names_no_bucket_or_holds_credentials_is_refused_unquoted(url):
    told = refusal(environ=CLOUD | {"PARLEY_CLOUD_URL": url})

    assert told.startswith("PARLEY_CLOUD_URL: ")
    assert "sesame" not in told


@pytest.mark.parametrize("options", ["sesame", "[]", '{"region": 1}', '{"sesame": null}'])
def test_options_that_are_no_object_of_texts_are_refused_unquoted(options):
    told = refusal(environ=CLOUD | {"PARLEY_CLOUD_OPTIONS": options})

    assert told == "PARLEY_CLOUD_OPTIONS: no JSON object of texts"


PROPERTIES = ServerConfig.model_json_schema()["properties"]
NUMBERS = [
    name
    for name, schema in PROPERTIES.items()
    if {"integer", "number"} & {one.get("type") for one in (schema, *schema.get("anyOf", ()))}
]


@pytest.mark.parametrize("field", NUMBERS)
def test_no_number_is_taken_that_cannot_be_counted_to_or_waited_for(field):
    name = "PARLEY_" + field.upper()

    assert refusal(environ={name: "1" + "0" * 30}).startswith(f"{name}: ")


async def test_the_longest_times_are_those_the_server_can_wait_for(tmp_path):
    longest = {
        f"PARLEY_{name.upper()}": str(PROPERTIES[name].get("maximum", LONGEST_SECONDS))
        for name in NUMBERS
        if name.endswith("_seconds")
    }
    async with server_process(tmp_path, environment=longest) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as client:
            assert (await client.post(EVERY, json={})).status_code == 200
            assert len((await client.get(EVERY)).json()["results"]) == 1
        assert await server.stop() == 0

    assert server.stderr == b""


@pytest.mark.parametrize("rates", ["10/second;5/hour", "10/second, 5/hour", "1/minute|2/minute"])
def test_two_rates_in_the_place_of_one_are_refused(rates):
    assert refusal(environ={"PARLEY_RATE_READS": rates}) == "PARLEY_RATE_READS: must be one rate"
