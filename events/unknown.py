"""Stored events that this version cannot read as their kind; nothing of them is lost.

Their kind is undeclared, or what they carry does not fit its declaration.
"""

from typing import Any, ClassVar

from pydantic import Field

from events.actions import Action
from events.observations import Observation


class UnknownAction(Action):
    """An action whose `args` are as stored; `text` is the stored message."""

    wording: ClassVar[str] = "{text}"
    kind: str  # type: ignore[misc]  # differs by instance here, and only here
    args: dict[str, Any] = Field(default_factory=dict)
    text: str = ""


class UnknownObservation(Observation):
    """An observation whose `extras` are as stored; `text` is the stored message."""

    wording: ClassVar[str] = "{text}"
    kind: str  # type: ignore[misc]  # differs by instance here, and only here
    extras: dict[str, Any] = Field(default_factory=dict)
    text: str = ""
