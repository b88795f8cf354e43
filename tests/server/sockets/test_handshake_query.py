"""The handshake's query: what is refused is told in words that can be shown and sent."""

import pytest

from server.errors import Refused
from server.sockets.protocol import parse_handshake, refusal


@pytest.mark.parametrize("name", ["\u202egithub", "a%0Ab", "a%00", "\ud800", "x" * 500])
def test_a_refusal_repeats_no_control_characters_and_can_be_sent(name):
    with pytest.raises(Refused) as refused:
        parse_handshake(f"conversation_id=a&providers_set={name}")

    assert str(refused.value).startswith("Unknown provider: ")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400
    assert refusal(refused.value).startswith(b"44{")
