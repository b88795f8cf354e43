"""Tools for a model to call: the actions that a runtime carries out, each with the schema of its arguments."""

from collections.abc import Mapping, Sequence, Set as AbstractSet
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, NamedTuple

import orjson
from pydantic import ValidationError

from events.actions import (
    ACTIONS,
    Action,
    BrowseInteractiveAction,
    BrowseURLAction,
    CmdRunAction,
    FileEditAction,
    FileReadAction,
    FileWriteAction,
    IPythonRunCellAction,
    MCPAction,
    TaskTrackingAction,
)
from runtime_stub.errors import RuntimeFloorError

JsonSchema = Mapping[str, Any]


class BadArguments(RuntimeFloorError):
    """A tool was called with arguments that it does not take; the text is for the model that did."""


@dataclass(frozen=True, slots=True)
class Tool:
    """An action that a model may ask for by name.

    `where` says what carries it out: the runtime, a tool server of the user, or the client.
    """

    name: str
    description: str
    schema: JsonSchema
    """The JSON schema of the arguments, an object; that of a tool server is the server's."""
    where: Literal["runtime", "mcp", "client"] = "runtime"

    def action(self, arguments: Mapping[str, Any]) -> Action:
        """Return the action that a call with these arguments asks for, for `Turn.act`.

        Raises BadArguments, also for fields of the action that are not offered: a model must not
        decide what a person is asked. A tool server checks its arguments by itself.
        """
        if not isinstance(arguments, Mapping):
            raise BadArguments(f"{self.name} takes an object of arguments.")
        if self.where == "mcp":
            return MCPAction(name=self.name, arguments=dict(arguments))
        offered = self.schema["properties"]
        unknown = [str(name) for name in arguments if name not in offered]
        missing = [name for name in self.schema["required"] if name not in arguments]
        if unknown or missing:
            what = f"does not take {', '.join(unknown)}" if unknown else f"needs {missing[0]}"
            raise BadArguments(f"{self.name} {what}. It takes {', '.join(offered)}.")
        try:
            return ACTIONS[self.name].model_validate(dict(arguments))
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)
        raise BadArguments(f"{self.name} does not take that: {said}")


@dataclass(frozen=True, slots=True)
class McpOptions:
    """The server's choices for the tool servers of its users; times in seconds.

    `stdio` permits those that are programs, which run as the server's own user, and
    `private_addresses` those on this machine and its network.
    """

    stdio: bool = False
    private_addresses: bool = False
    call_seconds: float = 60.0
    connect_seconds: float = 10.0
    retry_seconds: float = 30.0


def tools_for(kinds: AbstractSet[str]) -> Sequence[Tool]:
    """Return the tools for the kinds of action that a runtime carries out; the caller's own to change."""
    return [copied(tool) for tool in _every_tool() if tool.name in kinds]


def copied(tool: Tool) -> Tool:
    """Return a tool with a schema of its own, copied as the JSON that it is: that takes a tenth of the time."""
    try:
        return replace(tool, schema=orjson.loads(orjson.dumps(tool.schema)))
    except TypeError:  # of a custom runtime, and no JSON
        return deepcopy(tool)


def arguments_of(action: Action) -> dict[str, Any]:
    """Return the arguments of a call that asks for that action: those that are offered and needed."""
    if isinstance(action, MCPAction):
        return dict(action.arguments)
    offered = next((one for one in OFFERED if one.action is type(action)), None)
    if offered is None:
        return {}
    fields = type(action).model_fields
    given = {name: getattr(action, name) for name in offered.arguments}
    return {
        name: value
        for name, value in given.items()
        if name in offered.required or value != fields[name].get_default(call_default_factory=True)
    }


class _Offered(NamedTuple):
    """A kind of action as a tool: its description, and what is said of each argument besides its type."""

    action: type[Action]
    description: str
    arguments: Mapping[str, dict[str, Any]]
    required: Sequence[str]


def _said(description: str, **more: Any) -> dict[str, Any]:
    return {"description": description, **more}


PATH = _said("Path of the file, absolute or from the root of the workspace.")
OFFERED = (
    _Offered(
        CmdRunAction,
        "Run a shell command in the workspace. Gives its output and its exit code.",
        {"command": _said("The command line.")},
        ("command",),
    ),
    _Offered(
        IPythonRunCellAction,
        "Run Python code in the kernel of the workspace. Gives its output.",
        {"code": _said("The code.")},
        ("code",),
    ),
    _Offered(
        FileReadAction,
        "Read a text file of the workspace.",
        {
            "path": PATH,
            "start": _said("The first line, counted from 0."),
            "end": _said("The line before which to end; -1 for the end of the file."),
        },
        ("path",),
    ),
    _Offered(
        FileWriteAction,
        "Write a text file of the workspace, in the place of the one there is.",
        {"path": PATH, "content": _said("The whole text.")},
        ("path", "content"),
    ),
    _Offered(
        FileEditAction,
        "Edit a text file of the workspace: create it, replace a text that occurs once in it, insert"
        " lines, or view it.",
        {
            "command": _said("What to do.", enum=["view", "create", "str_replace", "insert"]),
            "path": PATH,
            "file_text": _said("For create: the whole text."),
            "old_str": _said("For str_replace: the text to replace."),
            "new_str": _said("For str_replace and insert: the new text."),
            "insert_line": _said(
                "For insert: the line behind which to insert; 0 for the beginning."
            ),
        },
        ("command", "path"),
    ),
    _Offered(
        BrowseURLAction,
        "Open a page of the web. Gives its text.",
        {"url": _said("The address.")},
        ("url",),
    ),
    _Offered(
        BrowseInteractiveAction,
        "Act within the open page.",
        {"browser_actions": _said("The actions, in the language of the browser.")},
        ("browser_actions",),
    ),
    _Offered(
        TaskTrackingAction,
        "View the list of tasks, or replace it by a plan.",
        {
            "command": _said("What to do.", enum=["view", "plan"]),
            "task_list": _said(
                "For plan: every task.",
                items={
                    "type": "object",
                    "properties": {
                        "title": {"type": "string"},
                        "status": {"type": "string", "enum": ["todo", "in_progress", "done"]},
                    },
                    "required": ["title", "status"],
                },
            ),
        },
        ("command",),
    ),
)


@cache  # made when an agent first asks: a server starts without it
def _every_tool() -> Sequence[Tool]:
    return tuple(
        Tool(offered.action.kind, offered.description, _schema_of(offered)) for offered in OFFERED
    )


def _schema_of(offered: _Offered) -> JsonSchema:
    declared = offered.action.model_json_schema()["properties"]
    properties = {
        name: {key: value for key, value in declared[name].items() if key != "title"} | said
        for name, said in offered.arguments.items()
    }
    for name in offered.required:
        properties[name].pop("default", None)
    return {
        "type": "object",
        "properties": properties,
        "required": list(offered.required),
        "additionalProperties": False,
    }
