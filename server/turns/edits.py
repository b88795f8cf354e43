"""The changes that a person makes to an action when agreeing to it."""

from collections.abc import Mapping
from typing import Any

import orjson

from events.actions import ACTIONS, Action
from events.layout import layout_of
from events.redaction import MASK
from events.serialization import decode, encode, mismatches_of
from events.stream import EVENT_BYTES
from events.strictness import refusal_of, shown, storable
from server.errors import BadEdit

FIXED = frozenset(("confirmation_state", "security_risk", "thought"))
"""Arguments that are the agent's or the server's to set."""
LONGEST_BYTES = EVENT_BYTES - 64 * 1024
"""Bytes of an edited action, so that there is room for what the turn adds to it."""


def edited(action: Action, changes: Mapping[str, Any], person: str) -> Action:
    """Return the action with a person's arguments in the place of its own, and `edited_by` set.

    Arguments that are not named stay. Raises BadEdit for an empty edit, an argument that the kind
    does not have or that cannot be changed, a value that does not fit it, and the mask of a secret.
    """
    if not changes:
        raise BadEdit("An edit names at least one argument")
    declared = ACTIONS.get(action.kind)
    names = frozenset() if declared is None else layout_of(declared).wire_names - FIXED
    for name in changes:
        if name not in names:
            raise BadEdit(
                f"The action {action.kind} has no argument {shown(name)} that can be changed"
            )
    refusal = refusal_of(dict(changes))
    if refusal is not None:
        raise BadEdit(refusal.removesuffix("."))
    for name, value in changes.items():
        if MASK.encode() in orjson.dumps(value):
            raise BadEdit(f"The argument {shown(name)} has a mask in the place of a secret")
    payload = encode(action)
    payload["args"] = payload["args"] | changes
    for misfit in mismatches_of(payload):
        raise BadEdit(f"The argument {shown(misfit.name)} {misfit.why}")
    if len(orjson.dumps(storable(payload))) > LONGEST_BYTES:
        raise BadEdit("The action would be too long")
    changed = decode(payload)
    if not isinstance(changed, Action):
        raise BadEdit(f"The action {action.kind} cannot be changed")
    return changed.model_copy(update={"edited_by": person})
