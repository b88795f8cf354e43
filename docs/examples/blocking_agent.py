"""A blocking agent: it asks a model by the standard library alone, in a thread, and streams the answer.

Name it with agent_class = "blocking_agent:PlainChatAgent". Address, key and name of the model are those in
the user's settings; any endpoint will do that speaks as OpenAI's chat completions do.
"""

import json
from collections.abc import Iterator
from typing import ClassVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from events.actions import MessageAction
from runtime_stub import BlockingAgent, BlockingTurn
from runtime_stub.turn import Reason, TurnFailed, Window

DATA = b"data: "
END = b"[DONE]"


class PlainChatAgent(BlockingAgent):
    """Sends the conversation to a model and writes what comes back."""

    # What the model is sent follows from the history alone.
    resumes: ClassVar[bool] = True

    def work(self, turn: BlockingTurn) -> None:
        """Answer; a stop ends this at the next piece."""
        messages = [
            {"role": role, "content": text}
            for exchange in turn.exchanges(Window(exchanges=20))
            for role, text in [
                *(("user", one.content) for one in exchange.asked),
                *(
                    ("assistant", one.content)
                    for one in exchange.done
                    if isinstance(one, MessageAction)
                ),
            ]
        ]
        with turn.say() as answer:
            for piece in self._pieces(turn, messages):
                answer.write(piece)

    def _pieces(self, turn: BlockingTurn, messages: list[dict[str, str]]) -> Iterator[str]:
        settings = turn.settings
        address = settings.llm_base_url or ""
        if not address.startswith(("https://", "http://")) or settings.llm_api_key is None:
            raise TurnFailed("No model is set; see the settings.", Reason.MODEL_UNREACHABLE)
        body = {"model": settings.llm_model or "default", "messages": messages, "stream": True}
        request = Request(  # noqa: S310 - the scheme is checked above
            f"{address.rstrip('/')}/chat/completions",
            data=json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {settings.llm_api_key.get_secret_value()}",
            },
        )
        try:
            with urlopen(request, timeout=60) as response:  # noqa: S310 - see above
                for line in response:
                    if line.startswith(DATA) and line.strip() != DATA + END:
                        for choice in json.loads(line[len(DATA) :])["choices"]:
                            yield choice["delta"].get("content") or ""
        except HTTPError as error:
            error.close()
            # The body may quote the key: people are told the reason only.
            refused = error.code in (401, 403)
            reason = Reason.MODEL_REFUSED_KEY if refused else Reason.MODEL_FAILED
            raise TurnFailed("", reason) from error
        except URLError as error:
            raise TurnFailed("", Reason.MODEL_UNREACHABLE) from error
