"""Actions: events that request something of the agent, the runtime or the server."""

from typing import Any, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from events.event import (
    ConfirmationState,
    Event,
    FileEditSource,
    FileReadSource,
    RecallType,
    SecurityRisk,
)
from events.version import server_version


class Action(Event):
    """An event that requests something. `timeout` is in seconds.

    `edited_by` names the person who changed the action when agreeing to it.
    """

    # Coercion would change a stored value; only words that have an enum are converted.
    model_config = ConfigDict(strict=True)

    timeout: float | None = None
    edited_by: str | None = None


class MessageAction(Action):
    """Says something to the other side.

    Of a question, `answer_schema` is the JSON schema that the answer is held to; it is absent where
    any text will do.
    """

    kind: ClassVar[str] = "message"
    wording: ClassVar[str] = "{content}"
    omitted: ClassVar[frozenset[str]] = frozenset(("answer_schema",))
    content: str
    file_urls: list[str] | None = None
    image_urls: list[str] | None = None
    wait_for_response: bool = False
    security_risk: SecurityRisk = SecurityRisk.UNKNOWN
    answer_schema: dict[str, Any] | None = None


class SystemMessageAction(Action):
    """Gives the agent its standing orders and tools."""

    kind: ClassVar[str] = "system"
    wording: ClassVar[str] = "{content}"
    content: str
    tools: list[Any] | None = None
    openhands_version: str | None = Field(default_factory=server_version)
    agent_class: str | None = None


class CmdRunAction(Action):
    """Runs a shell command."""

    kind: ClassVar[str] = "run"
    wording: ClassVar[str] = "Running command: {command}"
    command: str
    is_input: bool = False
    thought: str = ""
    blocking: bool = False
    is_static: bool = False
    cwd: str | None = None
    hidden: bool = False
    confirmation_state: ConfirmationState = ConfirmationState.CONFIRMED
    security_risk: SecurityRisk = SecurityRisk.UNKNOWN


class IPythonRunCellAction(Action):
    """Runs Python code in the workspace's kernel."""

    kind: ClassVar[str] = "run_ipython"
    wording: ClassVar[str] = "Running Python code interactively: {code}"
    code: str
    thought: str = ""
    include_extra: bool = True
    confirmation_state: ConfirmationState = ConfirmationState.CONFIRMED
    security_risk: SecurityRisk = SecurityRisk.UNKNOWN
    kernel_init_code: str = ""


class FileReadAction(Action):
    """Reads lines `start` to `end` of a file; -1 is the last line."""

    kind: ClassVar[str] = "read"
    wording: ClassVar[str] = "Reading file: {path}"
    path: str
    start: int = 0
    end: int = -1
    thought: str = ""
    security_risk: SecurityRisk = SecurityRisk.UNKNOWN
    impl_source: FileReadSource = FileReadSource.DEFAULT
    view_range: list[int] | None = None


class FileWriteAction(Action):
    """Writes lines `start` to `end` of a file; -1 is the last line."""

    kind: ClassVar[str] = "write"
    wording: ClassVar[str] = "Writing file: {path}"
    path: str
    content: str
    start: int = 0
    end: int = -1
    thought: str = ""
    security_risk: SecurityRisk = SecurityRisk.UNKNOWN


class FileEditAction(Action):
    """Edits a file, by an editor command or by a draft of lines `start` to `end`."""

    kind: ClassVar[str] = "edit"
    path: str
    command: str = ""
    file_text: str | None = None
    old_str: str | None = None
    new_str: str | None = None
    insert_line: int | None = None
    content: str = ""
    start: int = 1
    end: int = -1
    thought: str = ""
    security_risk: SecurityRisk = SecurityRisk.UNKNOWN
    impl_source: FileEditSource = FileEditSource.OH_ACI


class BrowseURLAction(Action):
    """Opens a page."""

    kind: ClassVar[str] = "browse"
    wording: ClassVar[str] = "I am browsing the URL: {url}"
    url: str
    thought: str = ""
    security_risk: SecurityRisk = SecurityRisk.UNKNOWN
    return_axtree: bool = False


class BrowseInteractiveAction(Action):
    """Acts within the open page."""

    kind: ClassVar[str] = "browse_interactive"
    wording: ClassVar[str] = "I am interacting with the browser:\n```\n{browser_actions}\n```"
    browser_actions: str
    thought: str = ""
    browsergym_send_msg_to_user: str = ""
    security_risk: SecurityRisk = SecurityRisk.UNKNOWN
    return_axtree: bool = False


class MCPAction(Action):
    """Calls a tool of a connected tool server."""

    kind: ClassVar[str] = "call_tool_mcp"
    wording: ClassVar[str] = (
        "I am calling the tool:\n```\n{name}\n```\nwith the arguments:\n```\n{arguments}\n```"
    )
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    thought: str = ""
    security_risk: SecurityRisk = SecurityRisk.UNKNOWN


class AgentDelegateAction(Action):
    """Hands a task to another agent."""

    kind: ClassVar[str] = "delegate"
    wording: ClassVar[str] = "I'm asking {agent} for help with this task."
    agent: str
    inputs: dict[str, Any]
    thought: str = ""


class AgentThinkAction(Action):
    """Notes a thought; answered by a `think` observation."""

    kind: ClassVar[str] = "think"
    wording: ClassVar[str] = "I am thinking...: {thought}"
    thought: str = ""


class AgentFinishAction(Action):
    """Ends the task."""

    kind: ClassVar[str] = "finish"
    final_thought: str = ""
    outputs: dict[str, Any] = Field(default_factory=dict)
    thought: str = ""

    @property
    def message(self) -> str:
        """Return the thought, or a fixed question if there is none."""
        return self.thought or "All done! What's next on the agenda?"


class AgentRejectAction(Action):
    """Declines the task."""

    kind: ClassVar[str] = "reject"
    outputs: dict[str, Any] = Field(default_factory=dict)
    thought: str = ""

    @property
    def message(self) -> str:
        """The refusal, with `outputs.reason` when there is one."""
        reason = f" Reason: {self.outputs['reason']}" if "reason" in self.outputs else ""
        return f"Task is rejected by the agent.{reason}"


class RecallAction(Action):
    """Asks memory for knowledge."""

    kind: ClassVar[str] = "recall"
    wording: ClassVar[str] = "Retrieving content for: {query:.50}"
    recall_type: RecallType
    query: str = ""
    thought: str = ""


class ChangeAgentStateAction(Action):
    """Requests an agent state; any text is accepted from a log.

    With `of`, the id of a turn, the request applies to that turn only: once the turn is over
    nothing changes. A decision names the action that it is about by `of`; `edit` has the arguments
    that the action is to be carried out with in the place of its own. `always` is a kind of action
    to which the request applies from now on.
    """

    kind: ClassVar[str] = "change_agent_state"
    wording: ClassVar[str] = "Agent state changed to {agent_state}"
    omitted: ClassVar[frozenset[str]] = frozenset(("of", "edit", "always"))
    agent_state: str
    thought: str = ""
    of: int | None = None
    edit: dict[str, Any] | None = None
    always: str | None = None


class CondensationAction(Action):
    """Drops events from the agent's history: a list of ids, or a range with both ends."""

    kind: ClassVar[str] = "condensation"
    forgotten_event_ids: list[int] | None = None
    forgotten_events_start_id: int | None = None
    forgotten_events_end_id: int | None = None
    summary: str | None = None
    summary_offset: int | None = None

    @model_validator(mode="after")
    def _one_way_of_forgetting(self) -> Self:
        ends = (self.forgotten_events_start_id, self.forgotten_events_end_id)
        missing = ends.count(None)
        if missing != (0 if self.forgotten_event_ids is None else 2):
            raise ValueError("exactly one of the id list and the whole id range is needed")
        if (self.summary is None) != (self.summary_offset is None):
            raise ValueError("summary and summary_offset come together")
        return self

    @property
    def message(self) -> str:
        """The summary, or else the dropped ids; a range is not spelled out."""
        if self.summary:
            return f"Summary: {self.summary}"
        dropped = f"[{self.forgotten_events_start_id}..{self.forgotten_events_end_id}]"
        if self.forgotten_event_ids is not None:
            dropped = str(self.forgotten_event_ids)
        return f"Condenser is dropping the events: {dropped}."


class CondensationRequestAction(Action):
    """Asks for a condensation."""

    kind: ClassVar[str] = "condensation_request"
    wording: ClassVar[str] = "Requesting a condensation of the conversation history."


class TaskTrackingAction(Action):
    """Shows (`view`) or replaces (`plan`) the task list."""

    kind: ClassVar[str] = "task_tracking"
    command: str = "view"
    task_list: list[dict[str, Any]] = Field(default_factory=list)
    thought: str = ""

    @property
    def message(self) -> str:
        """Return the number of managed tasks."""
        count = len(self.task_list)
        if not count:
            return "Clearing the task list."
        return f"Managing {count} task item{'s' if count > 1 else ''}."


class LoopRecoveryAction(Action):
    """Leaves a detected loop: 1 prompt again, 2 reuse the last prompt, 3 stop."""

    kind: ClassVar[str] = "loop_recovery"
    option: int = 1


class NullAction(Action):
    """Nothing."""

    kind: ClassVar[str] = "null"
    wording: ClassVar[str] = "No action"


ACTIONS: dict[str, type[Action]] = {declared.kind: declared for declared in Action.__subclasses__()}
"""Every declared action, by its wire name."""

RUNNABLE = frozenset(
    (
        "run",
        "run_ipython",
        "read",
        "write",
        "edit",
        "browse",
        "browse_interactive",
        "call_tool_mcp",
        "task_tracking",
    )
)
"""Kinds of action that a runtime carries out and answers with an observation."""
