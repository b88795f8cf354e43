"""A blocking agent: it asks a model by the standard library alone, in a thread, and streams the answer.

Name it with agent_class = "blocking_agent:PlainChatAgent". Address, key and name of the model are those in
the user's settings; any endpoint will do that speaks as OpenAI's chat completions do.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import SHUT_RDWR
from typing import ClassVar
from urllib.parse import urlsplit

from runtime_stub import BlockingAgent, BlockingTurn, ChatMessage, chat_messages
from runtime_stub.turn import Reason, TurnFailed, Window

DATA = b"data: "
END = b"[DONE]"
REASONS = {401: Reason.MODEL_REFUSED_KEY, 429: Reason.MODEL_BUSY}
"""The meaning of a provider's status; a 403 may be about the region, the model or the account as well."""
CONNECTIONS = {"https": HTTPSConnection, "http": HTTPConnection}


class PlainChatAgent(BlockingAgent):
    """Sends the conversation to a model and writes what comes back."""

    # What the model is sent follows from the history alone.
    resumes: ClassVar[bool] = True

    def work(self, turn: BlockingTurn) -> None:
        """Answer; a stop ends this at once, also while the model is silent."""
        exchanges = turn.exchanges(Window(exchanges=20))
        messages = chat_messages(exchanges, turn.cause)
        with turn.say() as answer:
            for piece in self._pieces(turn, messages):
                answer.write(piece)

    def _pieces(self, turn: BlockingTurn, messages: list[ChatMessage]) -> Iterator[str]:
        settings = turn.settings
        address = urlsplit(settings.llm_base_url or "")
        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else "none"
        if address.scheme not in CONNECTIONS or not address.netloc:
            raise TurnFailed("No model is set; see the settings.", Reason.MODEL_UNREACHABLE)
        body = {"model": settings.llm_model or "default", "messages": messages, "stream": True}
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {key}",
        }
        path = f"{address.path.rstrip('/')}/chat/completions"
        try:
            with closing(CONNECTIONS[address.scheme](address.netloc, timeout=60)) as connection:
                connection.connect()
                # Closing the connection would not end this thread's wait for it.
                with turn.on_stop(partial(connection.sock.shutdown, SHUT_RDWR)):
                    connection.request("POST", path, json.dumps(body), headers)
                    with connection.getresponse() as response:
                        yield from _texts(response)
        except (OSError, HTTPException) as error:
            raise TurnFailed("", Reason.MODEL_UNREACHABLE) from error


def _texts(response: HTTPResponse) -> Iterator[str]:
    if response.status != HTTPStatus.OK:
        # The body may quote the key: people are told the reason only.
        raise TurnFailed("", REASONS.get(response.status, Reason.MODEL_FAILED))
    for line in response:
        if line.startswith(DATA) and line.strip() != DATA + END:
            try:
                choices = json.loads(line[len(DATA) :])["choices"]
                texts = [choice["delta"].get("content") or "" for choice in choices]
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                # Such as an error in the place of the rest.
                raise TurnFailed("", Reason.MODEL_FAILED) from error
            yield from texts
