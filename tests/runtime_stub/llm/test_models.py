"""Which model is asked, as the settings spell it."""

import asyncio
import sys

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


def test_what_was_pasted_around_a_key_or_an_address_is_left_out():
    found = choose(settings("gpt-x", f"\t{LOCAL}/ \n", SecretStr(" sk-1234567890\r\n")))

    assert (found.address, found.key) == (LOCAL, SecretStr("sk-1234567890"))


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-gööd", "sk-\u200bone", "sk-\x00"])
def test_a_key_that_no_request_can_carry_is_refused_and_not_quoted(key):
    with pytest.raises(NoModel) as refused:
        choose(settings("gpt-x", LOCAL, SecretStr(key)))

    assert "The API key has a character in it" in str(refused.value)
    assert "sk-" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "ftp://ann:planted@example.org",
        "http://",
        "https:///v1",
        "http://ann:planted@host:port/v1",
        "http://ann:planted@ex ample.org/v1",
        "http://ann:planted@example.org/v1\nX-Header: 1",
        "http://ann:planted@example.org:99999999/v1",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_quoted(address):
    with pytest.raises(NoModel, match="The address of the provider") as refused:
        choose(settings("gpt-x", address))

    assert "planted" not in str(refused.value)


LOADS = """
import asyncio, sys, threading
from functools import partial

import runtime_stub.llm
from runtime_stub.llm.models import choose, context_tokens, opened
from runtime_stub.turn import AgentSettings

chosen = AgentSettings(llm_model="gpt-4o", llm_base_url="http://127.0.0.1:9/v1")


def look(where, frame, event, called):
    if event == "c_call" and called.__name__ == "set_default_verify_paths":
        print(where, "certificates")
    in_prices = "genai_prices" in frame.f_code.co_filename
    if event == "call" and frame.f_code.co_name == "<module>" and in_prices:
        print(where, "prices")


async def ask():
    choice = choose(chosen)
    async with opened(choice):
        assert context_tokens(choice, chosen) == 128_000


threading.setprofile(partial(look, "beside"))
sys.setprofile(partial(look, "on"))
asyncio.run(ask())
"""


async def test_prices_and_certificates_are_loaded_beside_the_event_loop():
    asked = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LOADS), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asked.communicate()

    assert asked.returncode == 0
    assert set(printed.decode().splitlines()) == {"beside certificates", "beside prices"}


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
