"""What an endpoint says of itself, beside its code: what it takes, answers and refuses."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel

from server.routes.matching import Endpoint

JSON = "application/json"

_RAISES = re.compile(r"\s*Raises\s.*?\.(?=\s|$)", re.DOTALL)
_Marked = TypeVar("_Marked", bound=Callable[..., Any])


class Tag(StrEnum):
    """The groups in which addresses are shown, in this order; the values are shown."""

    CONVERSATIONS = "Conversations"
    EVENTS = "Events"
    WORKSPACE = "Workspace"
    SETTINGS = "Settings"
    SECRETS = "Secrets"
    OPTIONS = "Options"
    GIT_HOSTS = "Git hosts"
    HEALTH = "Health"
    DOCUMENTS = "Documents"
    ADMINISTRATION = "Administration"


@dataclass(frozen=True, slots=True)
class Description:
    """One endpoint; `name` is its function's, for messages."""

    name: str
    tag: Tag
    summary: str
    details: str
    answer: Any
    """A type whose JSON the answer is; None for an answer that is no JSON."""
    status: int
    media_type: str
    text_type: str | None
    """The type of the same answer as a text, where one may be asked for."""
    query: type[BaseModel] | None
    body: Any
    """A type whose JSON the body is; None for no body."""
    body_schema: Mapping[str, Any] | None
    body_type: str
    takes_key: bool
    """Whether an Idempotency-Key is heeded."""
    raises: tuple[type[Exception], ...]
    statuses: Mapping[int, str]
    """Answers with a status that the table of errors does not give, and what they mean."""


DESCRIPTIONS: dict[Callable[..., Any], Description] = {}
"""Every described function."""


def described(
    tag: Tag,
    *,
    answer: Any = None,
    status: int = 200,
    media_type: str = JSON,
    text_type: str | None = None,
    query: type[BaseModel] | None = None,
    body: Any = None,
    body_schema: Mapping[str, Any] | None = None,
    body_type: str = JSON,
    takes_key: bool = False,
    raises: Iterable[type[Exception]] = (),
    statuses: Mapping[int, str] | None = None,
) -> Callable[[_Marked], _Marked]:
    """Describe the endpoint below for /openapi.json.

    The docstring's first line is its summary, the rest without "Raises ..." its description.
    `query` and `body` are the models the endpoint reads with, `answer` the type it answers with;
    `raises` are the refusals of its own. What follows from the address (ids, the key), from a
    query or a body, and what every address may answer, is added by server/routes/openapi.py.
    """

    def mark(endpoint: _Marked) -> _Marked:
        text = inspect.getdoc(endpoint) or ""
        summary, _, details = _RAISES.sub("", text).strip().partition("\n")
        DESCRIPTIONS[endpoint] = Description(
            name=f"{endpoint.__module__}.{endpoint.__qualname__}",
            tag=tag,
            summary=summary.strip().removesuffix("."),
            details=details.strip(),
            answer=answer,
            status=status,
            media_type=media_type,
            text_type=text_type,
            query=query,
            body=body,
            body_schema=body_schema,
            body_type=body_type,
            takes_key=takes_key,
            raises=tuple(raises),
            statuses=statuses or {},
        )
        return endpoint

    return mark


def description_of(endpoint: Endpoint) -> Description | None:
    """The description of an endpoint of the route table; None when it has none."""
    inner = inspect.unwrap(endpoint)
    return DESCRIPTIONS.get(getattr(inner, "__func__", inner))
