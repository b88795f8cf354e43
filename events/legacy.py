"""Older spellings of arguments and extras, turned into today's."""

import ast
from collections.abc import Mapping
from typing import Any

from events.event import SecurityRisk
from events.strictness import refusal_of

RENAMED = {"is_confirmed": "confirmation_state", "images_urls": "image_urls"}
DROPPED = ("timestamp", "keep_prompt", "task_completed")
CODE = "translated_ipython_code"
CODE_START, CODE_END = "print(file_editor(**", "))"
MAX_CODE_CHARACTERS = 1_000_000
RISKS = frozenset(SecurityRisk)


def modern_args(args: Mapping[str, Any], declared: frozenset[str]) -> dict[str, Any]:
    """Copy an action's arguments in the current spelling; `declared` are the kind's own names.

    A declared name is never taken for an old one. If both spellings are given, the current one
    wins.
    """
    modern = dict(args)
    for old, new in RENAMED.items():
        if old in modern and old not in declared and new in declared:
            value = modern.pop(old)
            modern.setdefault(new, value)
    for name in DROPPED:
        if name not in declared:
            modern.pop(name, None)
    if CODE in modern and CODE not in declared:
        modern |= _editor_arguments(modern.pop(CODE))
        if modern.get("command") == "view":
            del modern["command"]
    if "security_risk" in declared and not is_security_risk(modern.get("security_risk", -1)):
        del modern["security_risk"]
    return modern


def is_security_risk(value: object) -> bool:
    """Return whether a JSON value is one of the risk levels; a boolean is not."""
    return type(value) is int and value in RISKS


def modern_run_extras(extras: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the extras of a `run` observation in today's spelling, always with metadata."""
    modern = dict(extras)
    given = modern.get("metadata")
    if given is None:
        given = {}
    if isinstance(given, Mapping):
        metadata = dict(given)
        for old, new in (("exit_code", "exit_code"), ("command_id", "pid")):
            if old in modern:
                metadata[new] = modern.pop(old)
        modern["metadata"] = metadata
    modern.pop("formatted_output_and_error", None)
    return modern


def _editor_arguments(code: object) -> dict[str, Any]:
    if not isinstance(code, str) or len(code) > MAX_CODE_CHARACTERS:
        return {}
    code = code.strip()
    if not (code.startswith(CODE_START) and code.endswith(CODE_END)):
        return {}
    try:
        value = ast.literal_eval(code[len(CODE_START) : -len(CODE_END)])
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {}
    if not isinstance(value, dict) or refusal_of(value) is not None:
        return {}
    return value
