"""The interfaces of three providers as a fake model speaks them: its frames, its errors, and what it refuses.

Each refuses what the provider's own refuses with a 400: a call without its result, a result without its
call, an empty text. A request that passes here has the form that the provider asks for.
"""

import json
import re
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, TypeAlias

import orjson

Json: TypeAlias = dict[str, Any]
Frames: TypeAlias = list[bytes]
PROMPT_TOKENS, COMPLETION_TOKENS = 11, 7
USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": COMPLETION_TOKENS,
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
}
SIGNATURE = "c2lnbmVk"
"""The beginning of signatures that the fakes have given, in base 64; they know no others."""
PICTURES = frozenset(("image/png", "image/jpeg", "image/webp", "image/gif"))
"""Media types that models see; Google's see no GIF."""
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Names of tools that every provider takes."""


class Told(NamedTuple):
    """Something that a request tells the model: `who` says it, or what it is."""

    who: str
    text: str
    more: Any = None
    """The arguments of a call; the signature of a thought."""


class Refusal(NamedTuple):
    """An answer that is none: status, body and headers."""

    status: int
    body: Json
    headers: Mapping[str, str]


class Wire(ABC):
    """One request as one provider's interface has it, and the frames of its answer."""

    provider: ClassVar[str]
    model: str

    def __init__(self, path: str, body: Json) -> None:
        self.path = path
        self.body = body

    @property
    @abstractmethod
    def told(self) -> list[Told]:
        """The conversation in the request, whoever's interface it is."""

    @property
    def signatures(self) -> list[str]:
        """The signatures in the request, in their order."""
        return []

    @abstractmethod
    def fault(self) -> str | None:
        """Why the provider refuses the request with a 400; None where it does not."""

    @abstractmethod
    def text(self, token: str) -> Frames:
        """A piece of the answer."""

    @abstractmethod
    def thought(self, token: str) -> Frames:
        """A piece of a thought."""

    def signed(self, signature: str) -> Frames:
        """The signature of the thought, or of a thought that is not shown."""
        return []

    @abstractmethod
    def call(self, place: int, name: str, arguments: str) -> Frames:
        """A call of a tool."""

    def new_id(self, place: int) -> str:
        """An id for a call that no call in the conversation has."""
        return f"toolu_{sum(one.who == 'call' for one in self.told) + place}"

    @abstractmethod
    def end(self, finish: str, *, usage: bool) -> Frames:
        """The end of the answer; `finish` as OpenAI spells it."""

    @abstractmethod
    def refusal(self, status: int, code: str, said: str, headers: Mapping[str, str]) -> Refusal:
        """What the provider sends for a fault that OpenAI's interface has this status and code for."""

    @abstractmethod
    def broken(self, said: str) -> Frames:
        """An error in the place of the rest of an answer."""


def wire_of(path: str, body: Json) -> Wire:
    """Return the request as the interface that its path belongs to has it."""
    if path.split("?", maxsplit=1)[0].endswith("/messages"):
        return AnthropicWire(path, body)
    if ":streamGenerateContent" in path:
        return GoogleWire(path, body)
    name = str(body.get("model"))
    found = next((one for begin, one in FAMILIES.items() if name.startswith(begin)), OpenAIWire)
    return found(path, body)


def address_of(provider: str, root: str) -> str:
    """Return the base address that clients of that interface are given."""
    return f"{root}/v1" if provider == OpenAIWire.provider else root


def _frame(payload: Json, event: str | None = None) -> bytes:
    named = b"" if event is None else b"event: %b\n" % event.encode()
    return named + b"data: %b\n\n" % orjson.dumps(payload)


class OpenAIWire(Wire):
    """Chat completions."""

    provider = "openai"
    longest_id = 40

    @property
    def model(self) -> str:  # type: ignore[override]
        """The model that is asked."""
        return str(self.body.get("model"))

    @property
    def messages(self) -> list[Json]:
        """The request's messages."""
        return list(self.body.get("messages", ()))

    @property
    def told(self) -> list[Told]:
        """See Wire."""
        return [one for message in self.messages for one in self._told(message)]

    def _told(self, message: Json) -> Iterator[Told]:
        who: str = message["role"]
        content = message.get("content")
        for part in [content] if isinstance(content, str) else content or ():
            if isinstance(part, str):
                yield Told("result" if who == "tool" else who, part)
            elif part["type"] == "text":
                yield Told(who, part["text"])
            else:
                yield Told("picture", part["image_url"]["url"])
        for call in message.get("tool_calls") or ():
            function = call["function"]
            yield Told("call", function["name"], json.loads(function["arguments"]))

    def fault(self) -> str | None:
        """See Wire."""
        waiting: set[str] = set()
        for message in self.messages:
            if message["role"] == "tool":
                if message.get("tool_call_id") not in waiting:
                    return "messages with role 'tool' must be a response to 'tool_calls'"
                waiting.discard(message["tool_call_id"])
            elif waiting:
                break
            else:
                calls = message.get("tool_calls") or ()
                wrong = self._fault_of(message, calls)
                if wrong:
                    return wrong
                waiting = {call["id"] for call in calls}
        if waiting:
            return f"tool_call_ids did not have response messages: {', '.join(waiting)}"
        return None if self.messages else "Invalid 'messages': empty array"

    def _fault_of(self, message: Json, calls: Sequence[Json]) -> str | None:
        if message["role"] == "assistant" and not calls and not message.get("content"):
            return "Invalid value for 'content': expected a string, got null."
        if len({call["id"] for call in calls}) < len(calls):
            return "Invalid 'messages.tool_calls': duplicate ids"
        if any(len(call["id"]) > self.longest_id for call in calls):
            return "Invalid 'messages.tool_calls.id': string too long"
        if not all(NAME.fullmatch(call["function"]["name"]) for call in calls):
            return "Invalid 'messages.tool_calls.function.name': string does not match pattern"
        return None

    def delta(self, delta: Json, finish: str | None = None) -> Frames:
        """A chunk of the stream."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return [_frame({"id": "c-1", "object": "chat.completion.chunk", "choices": [choice]})]

    def text(self, token: str) -> Frames:
        """See Wire."""
        return self.delta({"content": token})

    def thought(self, token: str) -> Frames:
        """See Wire."""
        return self.delta({"reasoning_content": token})

    def call(self, place: int, name: str, arguments: str) -> Frames:
        """See Wire: the arguments come in two pieces, and ids come again, as those of local models do."""
        half = len(arguments) // 2
        function: Json = {"name": name, "arguments": arguments[:half]}
        call = {"index": place, "id": f"call-{place}", "type": "function", "function": function}
        rest = {"index": place, "function": {"arguments": arguments[half:]}}
        return [*self.delta({"tool_calls": [call]}), *self.delta({"tool_calls": [rest]})]

    def end(self, finish: str, *, usage: bool) -> Frames:
        """See Wire."""
        counted = [_frame({"id": "c-1", "choices": [], "usage": USAGE})] if usage else []
        return [*self.delta({}, finish), *counted, b"data: [DONE]\n\n"]

    def refusal(self, status: int, code: str, said: str, headers: Mapping[str, str]) -> Refusal:
        """See Wire."""
        body = {"error": {"message": f"{said}: {code}", "type": code, "code": code}}
        return Refusal(status, body, headers)

    def broken(self, said: str) -> Frames:
        """See Wire."""
        told = {"message": said, "type": "server_error", "code": "server_error"}
        return [_frame({"error": told})]


class MistralWire(OpenAIWire):
    """Chat completions as Mistral's models have them."""

    call_id = re.compile(r"[a-zA-Z0-9]{9}")

    def fault(self) -> str | None:
        """See Wire."""
        ids = [call["id"] for one in self.messages for call in one.get("tool_calls") or ()]
        ids += [one["tool_call_id"] for one in self.messages if "tool_call_id" in one]
        wrong = next((one for one in ids if not self.call_id.fullmatch(one)), None)
        if wrong is not None:
            return f"Tool call id was {wrong} but must be a-z, A-Z, 0-9, with a length of 9."
        roles = pairwise([one["role"] for one in self.messages])
        if ("tool", "user") in roles:
            return "Unexpected role 'user' after role 'tool'"
        return super().fault()


class DeepSeekWire(OpenAIWire):
    """Chat completions as DeepSeek's models have them that think."""

    def fault(self) -> str | None:
        """See Wire."""
        if any(one.get("tool_calls") and "reasoning_content" not in one for one in self.messages):
            return "The `reasoning_content` in the thinking mode must be passed back to the API."
        return super().fault()


FAMILIES: Mapping[str, type[OpenAIWire]] = {
    "mistral-": MistralWire,
    "deepseek-v4-": DeepSeekWire,
}
"""Models that are stricter than OpenAI's, by the beginnings of their names."""


class AnthropicWire(Wire):
    """The Messages API."""

    provider = "anthropic"
    kinds: ClassVar = {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    reasons: ClassVar = {
        "stop": "end_turn",
        "tool_calls": "tool_use",
        "length": "max_tokens",
        "content_filter": "refusal",
    }
    texts: ClassVar = {
        "context_length_exceeded": "prompt is too long: 208310 tokens > 200000 maximum",
        "insufficient_quota": "Your credit balance is too low to access the Anthropic API.",
        "overloaded": "Overloaded",
    }
    tool_id = re.compile(r"[a-zA-Z0-9_-]+")

    def __init__(self, path: str, body: Json) -> None:
        super().__init__(path, body)
        self._place = -1
        self._open = ""

    @property
    def model(self) -> str:  # type: ignore[override]
        """The model that is asked."""
        return str(self.body["model"])

    @property
    def told(self) -> list[Told]:
        """See Wire."""
        system = self.body.get("system") or ()
        blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system
        found = [Told("system", block["text"]) for block in blocks]
        for message in self.body["messages"]:
            found += [_block_told(message["role"], block) for block in _blocks(message)]
        return found

    @property
    def signatures(self) -> list[str]:
        """See Wire."""
        return [one.more for one in self.told if one.who == "thought"]

    def fault(self) -> str | None:
        """See Wire."""
        messages = self._merged()
        if not messages or messages[0][0] != "user":
            return 'messages: first message must use the "user" role'
        if messages[-1][0] != "user":
            return "The conversation must end with a user message."
        if "max_tokens" not in self.body:
            return "max_tokens: Field required"
        ids = [block["id"] for _, blocks in messages for block in blocks if "id" in block]
        if len(set(ids)) < len(ids):
            return "messages: `tool_use` ids must be unique"
        blocks = [block for _, found in messages for block in found]
        wrong = next((one for one in map(self._block_fault, blocks) if one), None)
        return wrong or self._pairing_fault(messages)

    def _merged(self) -> list[tuple[str, list[Json]]]:
        """The messages; neighbours of one role are one message to the API."""
        found: list[tuple[str, list[Json]]] = []
        for message in self.body["messages"]:
            if found and found[-1][0] == message["role"]:
                found[-1][1].extend(_blocks(message))
            else:
                found.append((message["role"], _blocks(message)))
        return found

    def _block_fault(self, block: Json) -> str | None:
        kind = block["type"]
        if kind == "text" and not block["text"].strip():
            return "messages: text content blocks must contain non-whitespace text"
        if kind == "thinking" and not block["signature"].startswith(SIGNATURE):
            return "messages: Invalid `signature` in `thinking` block"
        if kind == "tool_use" and not self.tool_id.fullmatch(block["id"]):
            return "messages: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
        if kind == "tool_use" and not NAME.fullmatch(block["name"]):
            return "messages: tool_use.name: String should match pattern"
        if kind == "image" and block["source"].get("media_type", "image/gif") not in PICTURES:
            return "messages: image.source.base64.media_type: Input should be 'image/jpeg' ..."
        return None

    @staticmethod
    def _pairing_fault(messages: Sequence[tuple[str, list[Json]]]) -> str | None:
        for (_, before), (_, after) in pairwise([("", []), *messages]):
            asked = [block["id"] for block in before if block["type"] == "tool_use"]
            kinds = [block["type"] for block in after]
            results = [block["tool_use_id"] for block in after if block["type"] == "tool_result"]
            if kinds[: len(results)] != ["tool_result"] * len(results):
                return "`tool_use` ids were found without `tool_result` blocks immediately after"
            if len(set(results)) < len(results):
                return (
                    "each tool_use must have a single result. Found multiple `tool_result` blocks"
                )
            if set(results) - set(asked):
                return "unexpected `tool_use_id` found in `tool_result` blocks"
            if set(asked) - set(results):
                return "`tool_use` ids were found without `tool_result` blocks immediately after"
        return None

    def text(self, token: str) -> Frames:
        """See Wire."""
        return [
            *self._block("text", {"type": "text", "text": ""}),
            self._delta({"type": "text_delta", "text": token}),
        ]

    def thought(self, token: str) -> Frames:
        """See Wire."""
        return [*self._thinking(), self._delta({"type": "thinking_delta", "thinking": token})]

    def signed(self, signature: str) -> Frames:
        """See Wire."""
        frames = self._thinking()
        frames.append(self._delta({"type": "signature_delta", "signature": signature}))
        return frames + self._stop()

    def call(self, place: int, name: str, arguments: str) -> Frames:
        """See Wire: the arguments come in two pieces."""
        half = len(arguments) // 2
        block = {"type": "tool_use", "id": self.new_id(place), "name": name, "input": {}}
        frames = [*self._stop(), *self._block("tool_use", block)]
        pieces = [
            self._delta({"type": "input_json_delta", "partial_json": piece})
            for piece in (arguments[:half], arguments[half:])
        ]
        return [*frames, *pieces, *self._stop()]

    def end(self, finish: str, *, usage: bool) -> Frames:
        """See Wire."""
        reason = {"stop_reason": self.reasons[finish], "stop_sequence": None}
        used = {"output_tokens": COMPLETION_TOKENS if usage else 0}
        frames = [*self._begin(usage=usage), *self._stop()]
        frames.append(self._event("message_delta", {"delta": reason, "usage": used}))
        return [*frames, self._event("message_stop", {})]

    def refusal(self, status: int, code: str, said: str, headers: Mapping[str, str]) -> Refusal:
        """See Wire."""
        sent = {503: 529}.get(status, 400 if code == "insufficient_quota" else status)
        kind = self.kinds.get(sent, "api_error")
        error = {"type": kind, "message": f"{self.texts.get(code, code)} ({said})"}
        return Refusal(sent, {"type": "error", "error": error, "request_id": "req_1"}, headers)

    def broken(self, said: str) -> Frames:
        """See Wire."""
        return [self._event("error", {"error": {"type": "api_error", "message": said}})]

    def _begin(self, *, usage: bool = True) -> Frames:
        if self._place >= 0:
            return []
        self._place = 0
        used = {"input_tokens": PROMPT_TOKENS if usage else 0, "output_tokens": 0}
        message: Json = {"id": "msg_1", "type": "message", "role": "assistant", "model": self.model}
        message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": used}
        return [self._event("message_start", {"message": message}), self._event("ping", {})]

    def _thinking(self) -> Frames:
        return self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})

    def _block(self, kind: str, block: Json) -> Frames:
        """Begin a block where none of that kind is open."""
        if self._open == kind:
            return []
        frames = [*self._begin(), *self._stop()]
        self._open = kind
        begun = {"index": self._place, "content_block": block}
        return [*frames, self._event("content_block_start", begun)]

    def _stop(self) -> Frames:
        if not self._open:
            return []
        self._open = ""
        self._place += 1
        return [self._event("content_block_stop", {"index": self._place - 1})]

    def _delta(self, delta: Json) -> bytes:
        return self._event("content_block_delta", {"index": self._place, "delta": delta})

    @staticmethod
    def _event(kind: str, payload: Json) -> bytes:
        return _frame({"type": kind, **payload}, kind)


def _blocks(message: Json) -> list[Json]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _block_told(role: str, block: Json) -> Told:
    match block["type"]:
        case "text":
            return Told(role, block["text"])
        case "thinking":
            return Told("thought", block["thinking"], block["signature"])
        case "redacted_thinking":
            return Told("thought", "", block["data"])
        case "tool_use":
            return Told("call", block["name"], block["input"])
        case "tool_result":
            content = block["content"]
            shown = content if isinstance(content, str) else content[0]["text"]
            return Told("result", shown)
        case _:
            return Told("picture", str(block["source"].get("url") or block["source"]["data"]))


class GoogleWire(Wire):
    """Generation of content by Gemini's API."""

    provider = "google"
    kinds: ClassVar = {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED",
        503: "UNAVAILABLE",
    }
    reasons: ClassVar = {
        "stop": "STOP",
        "tool_calls": "STOP",
        "length": "MAX_TOKENS",
        "content_filter": "SAFETY",
    }
    texts: ClassVar = {
        "context_length_exceeded": (
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
        ),
        "overloaded": "The model is overloaded. Please try again later.",
    }
    exhausted = "You exceeded your current quota, please check your plan and billing details."

    def __init__(self, path: str, body: Json) -> None:
        super().__init__(path, body)
        self._signature = ""
        self._finish: str | None = None

    @property
    def model(self) -> str:  # type: ignore[override]
        """The model that is asked."""
        return self.path.split("/models/")[1].split(":")[0]

    @property
    def contents(self) -> list[Json]:
        """The request's contents."""
        return list(self.body.get("contents", ()))

    @property
    def told(self) -> list[Told]:
        """See Wire."""
        system = (self.body.get("systemInstruction") or {}).get("parts", ())
        found = [Told("system", part["text"]) for part in system]
        for content in self.contents:
            who = "assistant" if content["role"] == "model" else content["role"]
            found += [_part_told(who, part) for part in content["parts"]]
        return found

    @property
    def signatures(self) -> list[str]:
        """See Wire."""
        parts = [part for content in self.contents for part in content["parts"]]
        return [part["thoughtSignature"] for part in parts if "thoughtSignature" in part]

    def fault(self) -> str | None:
        """See Wire."""
        contents = self.contents
        if not contents or contents[-1]["role"] != "user":
            return "Please ensure that single turn requests end with a user role."
        before: Json = {"role": "user", "parts": []}
        asked = 0
        for content in contents:
            parts = content["parts"]
            if not parts or not all(set(part) - {"thoughtSignature", "thought"} for part in parts):
                return "contents.parts.data: required oneof field 'data' must have one initialized field"
            calls = sum("functionCall" in part for part in parts)
            results = sum("functionResponse" in part for part in parts)
            if calls and before["role"] != "user":
                return "Please ensure that function call turn comes immediately after a user turn."
            if results != asked:
                return (
                    "Please ensure that the number of function response parts is equal to the number"
                    " of function call parts of the function call turn."
                )
            wrong = self._part_fault(parts)
            if wrong:
                return wrong
            before, asked = content, calls
        return None

    def _part_fault(self, parts: Sequence[Json]) -> str | None:
        called = next((part for part in parts if "functionCall" in part), None)
        if called is not None and "thoughtSignature" not in called:
            return "Function call is missing a thought_signature in functionCall parts."
        for part in parts:
            kind = part.get("inlineData", {}).get("mimeType", "image/png")
            if kind not in PICTURES - {"image/gif"}:
                return f"Unsupported MIME type: {kind}"
        return None

    def text(self, token: str) -> Frames:
        """See Wire."""
        return self._parts({"text": token})

    def thought(self, token: str) -> Frames:
        """See Wire."""
        return self._parts({"text": token, "thought": True})

    def signed(self, signature: str) -> Frames:
        """See Wire: the next part carries it."""
        self._signature = signature
        return []

    def call(self, place: int, name: str, arguments: str) -> Frames:
        """See Wire: a call comes whole, and one whose arguments are none does not come at all."""
        try:
            given = json.loads(arguments)
        except ValueError:
            self._finish = "MALFORMED_FUNCTION_CALL"
            return []
        return self._parts(
            {"functionCall": {"id": self.new_id(place), "name": name, "args": given}}
        )

    def end(self, finish: str, *, usage: bool) -> Frames:
        """See Wire."""
        used = {"promptTokenCount": PROMPT_TOKENS, "candidatesTokenCount": COMPLETION_TOKENS}
        used["totalTokenCount"] = PROMPT_TOKENS + COMPLETION_TOKENS
        counted = {"usageMetadata": used} if usage else {}
        reason = self._finish or self.reasons[finish]
        return self._parts({"text": ""}, {"finishReason": reason}, counted)

    def refusal(self, status: int, code: str, said: str, headers: Mapping[str, str]) -> Refusal:
        """See Wire: waits and the reasons of refused keys stand in the body."""
        details: list[Json] = []
        sent = {401: 400, 413: 400, 529: 503}.get(status, status)
        text = self.texts.get(code, code)
        kept = dict(headers)
        if status == 401:
            text = "API key not valid. Please pass a valid API key."
            details.append({"@type": "google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"})
        elif status == 429:
            text = self.exhausted
            named = "PerDay" if code == "insufficient_quota" else "PerMinute"
            quota = {"quotaId": f"GenerateRequests{named}PerProjectPerModel"}
            details.append({"@type": "google.rpc.QuotaFailure", "violations": [quota]})
        if "Retry-After" in kept:
            wait = f"{kept.pop('Retry-After')}s"
            details.append({"@type": "google.rpc.RetryInfo", "retryDelay": wait})
        error = {"code": sent, "message": f"{text} ({said})", "details": details}
        error["status"] = self.kinds.get(sent, "INTERNAL")
        return Refusal(sent, {"error": error}, kept)

    def broken(self, said: str) -> Frames:
        """See Wire."""
        return [_frame({"error": {"code": 500, "message": said, "status": "INTERNAL"}})]

    def _parts(self, part: Json, more: Json | None = None, besides: Json | None = None) -> Frames:
        if self._signature and not part.get("thought"):
            part["thoughtSignature"], self._signature = self._signature, ""
        candidate = {"content": {"parts": [part], "role": "model"}, "index": 0, **(more or {})}
        chunk = {"candidates": [candidate], "modelVersion": self.model, "responseId": "r-1"}
        return [_frame({**chunk, **(besides or {})})]


def _part_told(who: str, part: Json) -> Told:
    if "functionCall" in part:
        call = part["functionCall"]
        return Told("call", call["name"], call.get("args") or {})
    if "functionResponse" in part:
        return Told("result", str(next(iter(part["functionResponse"]["response"].values()))))
    if "text" in part:
        return Told("thought" if part.get("thought") else who, part["text"])
    return Told("picture", part["inlineData"]["data"])


def signature(text: str) -> str:
    """Return a signature that the fakes know again, as their providers make them."""
    return SIGNATURE + b64encode(text.encode()).decode()


WIRES: Mapping[str, type[Wire]] = {
    one.provider: one for one in (OpenAIWire, AnthropicWire, GoogleWire)
}
