"""Sealed values: opened in their place with their key, and nowhere else."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given, strategies as st

from storage.errors import Damaged, WrongKey
from storage.sealing.cipher import Cipher, SecretLocation, derive_key, new_key

PLACE = SecretLocation("ann", "secrets", "custom_secrets/TOKEN")
CIPHER = Cipher(new_key())

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts, st.none() | texts, texts, texts)
def test_what_is_sealed_is_opened_in_its_place(value, user_id, record, name):
    place = SecretLocation(user_id, record, name)

    assert CIPHER.open(CIPHER.seal(value, place), place) == value


def test_a_value_is_never_sealed_the_same_way_twice():
    assert CIPHER.seal("value", PLACE) != CIPHER.seal("value", PLACE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        PLACE._replace(user_id="bob"),
        PLACE._replace(user_id=None),
        PLACE._replace(user_id="None"),
        PLACE._replace(record="settings"),
        PLACE._replace(name="custom_secrets/OTHER"),
        SecretLocation("ann,secrets", "", PLACE.name),
    ],
)
def test_a_value_cannot_be_opened_in_another_place(elsewhere):
    sealed = CIPHER.seal("value", PLACE)

    with pytest.raises(Damaged, match="altered or moved"):
        CIPHER.open(sealed, elsewhere)


def test_another_key_says_that_it_is_another():
    with pytest.raises(WrongKey):
        Cipher(new_key()).open(CIPHER.seal("value", PLACE), PLACE)


def test_every_altered_byte_is_noticed():
    raw = urlsafe_b64decode(CIPHER.seal("value", PLACE))

    for position in range(len(raw)):
        altered = bytearray(raw)
        altered[position] ^= 1
        with pytest.raises((Damaged, WrongKey)):
            CIPHER.open(urlsafe_b64encode(altered).decode(), PLACE)


@pytest.mark.parametrize("text", ["", "x", "AQ==", "ünfit", "\N{HOT SPRINGS}"])
def test_what_is_no_sealed_value_is_damaged(text):
    with pytest.raises(Damaged):
        CIPHER.open(text, PLACE)


def test_a_cipher_shows_no_key():
    key = new_key()

    assert key.hex() not in repr(Cipher(key))


def test_a_text_always_gives_the_same_key_and_another_text_another():
    assert derive_key("correct horse") == derive_key("correct horse")
    assert derive_key("correct horse") != derive_key("correct horsf")
    assert len(derive_key("")) == 32
