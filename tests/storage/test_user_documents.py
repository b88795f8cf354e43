"""The stored form of settings and secrets: what is damaged is told, and quotes nothing."""

import json
from collections.abc import Callable
from functools import partial

import pytest
from pydantic import SecretStr

from storage.errors import Damaged, WrongKey
from storage.files.format import checked_body, with_checksum
from storage.sealing.cipher import Cipher, SecretLocation, new_key
from storage.users.codecs import decode_secrets, decode_settings, encode_secrets, encode_settings
from storage.users.secrets import CustomSecret, Secrets
from storage.users.settings import Settings

CIPHER = Cipher(new_key())
SETTINGS = encode_settings(Settings(llm_api_key=SecretStr("planted")), "ann", CIPHER)
SECRETS = encode_secrets(
    Secrets(custom_secrets={"TOKEN": CustomSecret(value=SecretStr("planted"))}), "ann", CIPHER
)

DECODERS: dict[str, Callable[..., object]] = {
    "settings": partial(decode_settings, user_id="ann", cipher=CIPHER),
    "secrets": partial(decode_secrets, user_id="ann", cipher=CIPHER),
}


def altered(kind: str, raw: bytes, change) -> bytes:
    """A record changed by somebody who knows how checksums are made."""
    body = json.loads(checked_body(kind, raw, "it"))
    change(body)
    return with_checksum(kind, json.dumps(body).encode())


def test_names_and_plain_settings_can_be_read_and_values_cannot():
    assert b"TOKEN" in SECRETS
    assert b"llm_api_key" in SETTINGS
    assert b"planted" not in SECRETS + SETTINGS


@pytest.mark.parametrize(("kind", "raw"), [("settings", SETTINGS), ("secrets", SECRETS)])
def test_every_damaged_byte_is_told(kind, raw):
    for position in range(len(raw)):
        broken = bytearray(raw)
        broken[position] ^= 4
        with pytest.raises(Damaged):
            DECODERS[kind](bytes(broken))


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"custom_secrets": 1}', b"nonsense", b"\xc2"]
)
@pytest.mark.parametrize("kind", ["settings", "secrets"])
def test_what_has_another_shape_is_damaged(kind, body):
    with pytest.raises(Damaged):
        DECODERS[kind](with_checksum(kind, body))


def test_a_value_put_under_another_name_is_damaged():
    def rename(body):
        body["custom_secrets"]["OTHER"] = body["custom_secrets"].pop("TOKEN")

    with pytest.raises(Damaged, match="altered or moved"):
        DECODERS["secrets"](altered("secrets", SECRETS, rename))


def test_a_key_put_in_the_place_of_another_is_damaged():
    def move(body):
        body["sealed"]["search_api_key"] = body["sealed"].pop("llm_api_key")

    with pytest.raises(Damaged, match="altered or moved"):
        DECODERS["settings"](altered("settings", SETTINGS, move))


def test_a_sealed_value_that_does_not_fit_any_more_is_not_quoted():
    def retell(body):
        sealed = CIPHER.seal(
            "planted" * 20_000, SecretLocation("ann", "secrets", "custom_secrets/TOKEN")
        )
        body["custom_secrets"]["TOKEN"]["value"] = sealed

    with pytest.raises(Damaged) as refusal:
        DECODERS["secrets"](altered("secrets", SECRETS, retell))

    assert "planted" not in repr(refusal.value)
    assert refusal.value.__cause__ is None


def test_a_record_without_a_key_at_hand_is_not_taken_for_an_empty_one():
    for kind, raw in (("settings", SETTINGS), ("secrets", SECRETS)):
        with pytest.raises(WrongKey):
            DECODERS[kind](raw, cipher=None)
