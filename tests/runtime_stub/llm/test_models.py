"""Which model is asked, as the settings spell it."""

import pytest
from pydantic import SecretStr

from runtime_stub.llm.models import UNKNOWN_CONTEXT, Choice, NoModel, choose, context_tokens
from runtime_stub.turn import AgentSettings, ModelOptions

KEY = SecretStr("sk-1234567890")
LOCAL = "http://127.0.0.1:11434/v1"


def settings(model, address=None, key=KEY, **options):
    return AgentSettings(
        llm_model=model,
        llm_base_url=address,
        llm_api_key=key,
        model_options=ModelOptions(**options),
    )


@pytest.mark.parametrize(
    ("model", "address", "expected"),
    [
        ("gpt-x", None, ("openai", "gpt-x")),
        ("openai/gpt-x", None, ("openai", "gpt-x")),
        ("openai:gpt-x", None, ("openai", "gpt-x")),
        ("claude-x", None, ("anthropic", "claude-x")),
        ("anthropic:claude-x", None, ("anthropic", "claude-x")),
        ("anthropic/claude-x", None, ("anthropic", "claude-x")),
        ("gemini/gemini-x", None, ("google", "gemini-x")),
        ("openrouter/meta/llama", None, ("openrouter", "meta/llama")),
        ("llama3:8b", LOCAL, ("openai", "llama3:8b")),
        ("meta/llama", LOCAL, ("openai", "meta/llama")),
        ("anthropic/claude-x", LOCAL, ("openai", "anthropic/claude-x")),
        ("anthropic:claude-x", LOCAL, ("anthropic", "claude-x")),
        ("openai/gpt-x", LOCAL, ("openai", "gpt-x")),
    ],
)
def test_a_model_has_the_provider_that_its_name_and_address_say(model, address, expected):
    choice = choose(settings(model, address))

    assert (choice.provider, choice.name) == expected
    assert choice.address == address


@pytest.mark.parametrize(
    ("model", "address", "key", "said"),
    [
        (None, None, KEY, "No model is set"),
        ("  ", LOCAL, KEY, "No model is set"),
        ("gpt-x", None, None, "There is no API key for gpt-x"),
        ("gpt-x", None, SecretStr(" "), "There is no API key for gpt-x"),
        ("gpt-x", "ftp://x", KEY, "does not begin with http"),
        ("meta-llama/llama", None, KEY, "The provider of meta-llama/llama is not known"),
    ],
)
def test_settings_that_name_no_model_say_what_is_missing(model, address, key, said):
    with pytest.raises(NoModel, match=said):
        choose(settings(model, address, key))


def test_a_model_on_the_machine_itself_needs_no_key():
    assert choose(settings("ollama/qwen3", key=None)).key is None
    assert choose(settings("qwen3", LOCAL, None)).key is None


def test_the_context_is_the_chosen_one_or_that_of_the_model_or_a_small_one():
    assert context_tokens(choose(settings("gpt-x")), settings("gpt-x", context_tokens=999)) == 999
    assert context_tokens(choose(settings("gpt-4o")), settings("gpt-4o")) == 128_000
    assert context_tokens(choose(settings("x", LOCAL)), settings("x", LOCAL)) == UNKNOWN_CONTEXT


def test_a_key_is_not_in_what_is_written_of_a_choice():
    assert "sk-1234567890" not in repr(Choice("openai", "x", None, KEY))
    assert "sk-1234567890" not in repr(settings("x"))
