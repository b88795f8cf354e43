"""An agent that writes long texts, with a secret in pieces, at the speed of a model."""

import asyncio

from events.redaction import MASK
from runtime_stub.agent import Agent
from runtime_stub.turn import Turn
from tests.support.remote import Remote
from tests.support.seeds import choices
from tests.support.servers import environment_of
from tests.support.turn_agents import asked

SECRET = "QXJVQXVJ-JJXQ"  # noqa: S105 - planted
SECRET_LETTERS = frozenset("QXJV")
"""They are in no text, name or id but the secret: one of them anywhere is a leak."""
WORDS = ("once", "upon", "a", "time", "\u00fcber", "\U0001f511", "there", "was", SECRET)
LONGEST_PIECE = 9
PACE_SECONDS = 0.012
"""The longest pause between two pieces."""


def request(seed: int, words: int) -> str:
    """Return the message that asks for a text."""
    return f"write {seed} {words}"


def text_of(message: str) -> str:
    """Return the text that a message asks for; of several messages the last one counts."""
    _, seed, words = message.split()[-3:]
    return " ".join(choices(int(seed)).choices(WORDS, k=int(words)))


def shown_of(message: str) -> str:
    """Return that text as clients are sent it."""
    return text_of(message).replace(SECRET, MASK)


def assert_no_secret(text: str) -> None:
    """Raise AssertionError where a letter of the secret is in a text."""
    assert not SECRET_LETTERS.intersection(text), text[:200]


async def plant_secret(api: Remote) -> None:
    """Give a server's user the secret."""
    answer = await api.client.post("/api/secrets", json={"name": "KEY", "value": SECRET})
    assert answer.status_code < 300, answer.text


class WritingAgent(Agent):
    """Writes the text that its message asks for."""

    async def run(self, turn: Turn) -> None:
        """See Agent."""
        message = asked(turn)
        chance, text, at = choices(len(message)), text_of(message), 0
        async with turn.say() as answer:
            while at < len(text):
                to = at + chance.randint(1, LONGEST_PIECE)
                answer.write(text[at:to])
                at = to
                await asyncio.sleep(chance.uniform(0, PACE_SECONDS))


SETTINGS = environment_of(agent_class=WritingAgent, max_concurrent_conversations=1_000)
"""The environment of a server with this agent."""
