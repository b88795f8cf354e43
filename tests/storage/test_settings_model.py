"""Settings: what a change changes, what is shown, what is masked."""

import pytest
from pydantic import SecretStr, ValidationError

from storage.errors import BadValue
from storage.users.mcp import HIDDEN, MAX_SERVERS, McpConfig
from storage.users.settings import Settings

URL = "https://tools.example.org/sse"
STORED = Settings.model_validate(
    {
        "language": "de",
        "confirmation_mode": True,
        "llm_model": "acme/large",
        "llm_base_url": "https://acme.example.org",
        "llm_api_key": "llm key",
        "search_api_key": "search key",
        "sandbox_api_key": "sandbox key",
        "max_budget_per_task": 2,
        "user_consents_to_analytics": True,
        "mcp_config": {
            "sse_servers": [{"url": URL, "api_key": "sse key"}],
            "stdio_servers": [
                {"name": "t", "command": "run", "env": {"KEY": "env value", "DEBUG": "true"}}
            ],
        },
    }
)


def merged(**change) -> Settings:
    return STORED.merged(Settings.model_validate(change))


def key_of(settings: Settings, name: str) -> str | None:
    key = getattr(settings, name)
    return None if key is None else key.get_secret_value()


def test_d81_a_partial_change_keeps_all_other_fields():
    changed = merged(language="fr")

    assert changed == STORED.model_copy(update={"language": "fr"})
    assert merged() == STORED


@pytest.mark.parametrize(
    "name",
    [
        "llm_api_key",
        "llm_model",
        "llm_base_url",
        "search_api_key",
        "sandbox_api_key",
        "user_consents_to_analytics",
    ],
)
def test_null_keeps_what_forms_do_not_show(name):
    assert merged(**{name: None}) == STORED


def test_null_puts_any_other_field_back_to_the_default():
    assert merged(max_budget_per_task=None).max_budget_per_task is None
    assert merged(mcp_config=None).mcp_config is None


@pytest.mark.parametrize("name", ["llm_api_key", "sandbox_api_key"])
def test_an_empty_text_clears_a_key(name):
    assert key_of(merged(**{name: ""}), name) is None


def test_d81_an_empty_search_key_which_the_form_always_sends_wipes_nothing():
    assert key_of(merged(search_api_key=""), "search_api_key") == "search key"
    assert key_of(merged(search_api_key="new"), "search_api_key") == "new"


def test_d81_the_sandbox_key_is_kept_as_it_is_and_not_as_asterisks():
    assert key_of(merged(sandbox_api_key="real"), "sandbox_api_key") == "real"


def test_nothing_shown_holds_a_secret():
    shown = STORED.shown()

    assert not {"llm_api_key", "search_api_key", "sandbox_api_key"} & shown.keys()
    assert shown["mcp_config"] == {
        "sse_servers": [{"url": URL, "api_key": HIDDEN}],
        "stdio_servers": [
            {"name": "t", "command": "run", "args": [], "env": {"KEY": HIDDEN, "DEBUG": HIDDEN}}
        ],
        "shttp_servers": [],
    }


def test_tool_servers_given_back_as_they_were_shown_keep_their_secrets():
    assert merged(mcp_config=STORED.shown()["mcp_config"]) == STORED


def test_a_hidden_key_is_not_taken_to_another_address():
    with pytest.raises(BadValue, match="must be given again"):
        merged(mcp_config={"sse_servers": [{"url": "https://evil.example", "api_key": HIDDEN}]})
    with pytest.raises(BadValue, match="must be given again"):
        merged(
            mcp_config={"stdio_servers": [{"name": "t", "command": "curl", "env": {"KEY": HIDDEN}}]}
        )
    with pytest.raises(BadValue, match="must be given again"):
        merged(mcp_config={"shttp_servers": [{"url": URL, "api_key": HIDDEN}]})


def test_d81_saving_what_was_read_does_not_multiply_tool_servers():
    twice = merged(mcp_config=STORED.shown()["mcp_config"])
    again = twice.merged(Settings.model_validate({"mcp_config": twice.shown()["mcp_config"]}))

    assert again.mcp_config is not None
    assert len(again.mcp_config.sse_servers) == 1


def test_masks_are_every_key_and_no_plain_word():
    assert sorted(STORED.masks().values()) == [
        "env value",
        "llm key",
        "sandbox key",
        "search key",
        "sse key",
    ]


@pytest.mark.parametrize(
    "unfit",
    [
        {"condenser_max_size": 19},
        {"max_iterations": 0},
        {"max_budget_per_task": 0},
        {"turn_seconds": 0},
        {"turn_seconds": 4e9},
        {"max_budget_per_task": float("inf")},
        {"language": "x" * 1001},
        {"llm_api_key": "x" * 8193},
        {"email": "\ud800"},
        {"mcp_config": {"sse_servers": [{"url": ""}]}},
        {"mcp_config": {"sse_servers": [{"url": "u"}] * (MAX_SERVERS + 1)}},
        {"mcp_config": {"stdio_servers": [{"name": "n"}]}},
    ],
)
def test_what_does_not_fit_is_refused_and_not_quoted(unfit):
    with pytest.raises(ValidationError) as refusal:
        Settings.model_validate({"llm_api_key": "planted"} | unfit)

    assert "planted" not in str(refusal.value)


def test_unknown_fields_are_dropped():
    given = {"provider_tokens_set": {}, "llm_api_key_set": True, "language": "en"}

    assert Settings.model_validate(given) == Settings(language="en")
    assert McpConfig.model_validate({"colour": 1}) == McpConfig()
    assert Settings(llm_api_key=SecretStr("")).has("llm_api_key") is False


@pytest.mark.parametrize("kind", ["sse_servers", "shttp_servers"])
@pytest.mark.parametrize(
    "url",
    ["mcp.example.org", "ftp://example.org", "https://", "http://[::1", "https://a.example:x"],
)
def test_a_tool_server_is_refused_whose_address_is_not_one_of_http(kind, url):
    with pytest.raises(BadValue, match="is not an address"):
        merged(mcp_config={kind: [{"url": url}]})
