"""What came of a call of a tool, as an observation: texts whole, everything else by name."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from events.actions import MCPAction
from events.observations import (
    MAX_OUTPUT_CHARACTERS,
    ErrorObservation,
    MCPObservation,
    Observation,
)
from events.strictness import storable

FAILED_ID = "AGENT_ERROR$TOOL_FAILED"
"""The tool, or its server, says that the call failed."""
UNAVAILABLE_ID = "AGENT_ERROR$TOOL_UNAVAILABLE"
"""There is no such tool, or its server cannot be used."""


def observation_of(action: MCPAction, result: CallToolResult | InputRequiredResult) -> Observation:
    """Return the observation of a call: an error where the server says that it is one."""
    if isinstance(result, InputRequiredResult):
        return failure("The tool asks for more than its arguments, which cannot be given here.")
    text = "\n".join(_words(result))
    if result.is_error:
        return failure(text)
    return MCPObservation(content=text, name=action.name, arguments=action.arguments)


def failure(text: str, error_id: str = FAILED_ID) -> ErrorObservation:
    """Return the error of a call; a text that is too long for one is not told in part.

    A part of it might hold half of a secret, which nothing would mask.
    """
    if len(text) > MAX_OUTPUT_CHARACTERS:
        text = f"The tool failed. What it says of that is too long: {len(text)} characters."
    return ErrorObservation(content=text or "The tool failed.", error_id=error_id)


def _words(result: CallToolResult) -> Iterator[str]:
    texts = [_text_of(block) for block in result.content]
    yield from texts
    structured = result.structured_content
    if structured is not None and not _is_said(structured, texts):
        yield _json_of(structured)


def _json_of(structured: Any) -> str:
    try:
        return orjson.dumps(structured).decode()
    except TypeError:  # a number or a text that no log holds
        return orjson.dumps(storable(structured)).decode()


def _is_said(structured: Any, texts: Sequence[str]) -> bool:
    """Return whether the texts say the same, as most servers repeat it for older clients.

    What is no object they put into one, as its `result`.
    """
    forms = [structured]
    if isinstance(structured, dict) and structured.keys() == {"result"}:
        forms.append(structured["result"])
    return any(form == [*texts] or any(_says(text, form) for text in texts) for form in forms)


def _says(text: str, form: Any) -> bool:
    if text == form:
        return True
    try:
        return bool(orjson.loads(text) == form)
    except orjson.JSONDecodeError:
        return False


def _text_of(block: ContentBlock) -> str:
    match block:
        case TextContent(text=text) | EmbeddedResource(resource=TextResourceContents(text=text)):
            return text
        case ImageContent(mime_type=kind, data=data):
            return f"[picture: {kind}, {_size(data)}]"
        case AudioContent(mime_type=kind, data=data):
            return f"[sound: {kind}, {_size(data)}]"
        case ResourceLink(name=name, uri=uri):
            return f"[{name}: {uri}]"
        case EmbeddedResource(resource=BlobResourceContents(uri=uri, blob=blob) as resource):
            return f"[file {uri}: {resource.mime_type or 'of no type'}, {_size(blob)}]"
        case _:
            return "[something that cannot be told]"


def _size(encoded: str) -> str:
    """Return how many bytes a text in Base64 stands for."""
    padding = len(encoded) - len(encoded.rstrip("="))
    return f"{len(encoded) * 3 // 4 - padding} bytes"
