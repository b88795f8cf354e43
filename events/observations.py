"""Observations: what happened, mostly in answer to an action (`cause` is its id)."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from events.event import Event, FileEditSource, FileReadSource, RecallType

MAX_OUTPUT_CHARACTERS = 30_000
CUT_MARK = "[... Observation truncated due to length ...]"
"""Replaces the part that was cut from a command's output."""


class Observation(Event):
    """An event that reports what happened."""

    # Coercion would change a stored value.
    model_config = ConfigDict(strict=True)

    content: str = ""

    @property
    def success(self) -> bool | None:
        """Whether the action succeeded; None for kinds without that information."""
        return None


class CmdOutputMetadata(BaseModel):
    """Metadata of a command's output; -1 means unknown. Undeclared keys are preserved."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    exit_code: int = -1
    pid: int = -1
    username: str | None = None
    hostname: str | None = None
    working_dir: str | None = None
    py_interpreter_path: str | None = None
    prefix: str = ""
    suffix: str = ""


class CmdOutputObservation(Observation):
    """A command's output; of more than 30,000 characters both ends are stored, unless hidden.

    It is cut when it is appended, after its secrets were masked: a cut through a secret would leave
    two halves that nothing finds.
    """

    kind: ClassVar[str] = "run"
    wording: ClassVar[str] = "Command `{command}` executed with exit code {metadata.exit_code}."
    command: str
    metadata: CmdOutputMetadata = Field(default_factory=CmdOutputMetadata)
    hidden: bool = False

    @property
    def success(self) -> bool:
        """Whether the exit code is 0."""
        return self.metadata.exit_code == 0


class IPythonRunCellObservation(Observation):
    """A cell's output."""

    kind: ClassVar[str] = "run_ipython"
    wording: ClassVar[str] = "Code executed in IPython cell."
    code: str
    image_urls: list[str] | None = None

    @property
    def success(self) -> bool:
        """Always true: the failure of a cell is in its text."""
        return True


class FileReadObservation(Observation):
    """A file's text."""

    kind: ClassVar[str] = "read"
    wording: ClassVar[str] = "I read the file {path}."
    path: str
    impl_source: FileReadSource = FileReadSource.DEFAULT


class FileWriteObservation(Observation):
    """A file was written."""

    kind: ClassVar[str] = "write"
    wording: ClassVar[str] = "I wrote to the file {path}."
    path: str


class FileEditObservation(Observation):
    """A file was edited. `diff_cache` travels as `_diff_cache`."""

    kind: ClassVar[str] = "edit"
    wording: ClassVar[str] = "I edited the file {path}."
    path: str = ""
    prev_exist: bool = False
    old_content: str | None = None
    new_content: str | None = None
    impl_source: FileEditSource = FileEditSource.LLM_BASED_EDIT
    diff: str | None = None
    diff_cache: str | None = None


class BrowserOutputObservation(Observation):
    """A page as the browser shows it; `screenshot` is a data URL."""

    kind: ClassVar[str] = "browse"
    wording: ClassVar[str] = "Visited {url}"
    url: str
    trigger_by_action: str
    screenshot: str = ""
    screenshot_path: str | None = None
    set_of_marks: str = ""
    error: bool = False
    goal_image_urls: list[Any] = Field(default_factory=list)
    open_pages_urls: list[Any] = Field(default_factory=list)
    active_page_index: int = -1
    dom_object: dict[str, Any] = Field(default_factory=dict)
    axtree_object: dict[str, Any] = Field(default_factory=dict)
    extra_element_properties: dict[str, Any] = Field(default_factory=dict)
    last_browser_action: str = ""
    last_browser_action_error: str = ""
    focused_element_bid: str = ""
    filter_visible_only: bool = False


class AgentDelegateObservation(Observation):
    """Another agent's result for a task."""

    kind: ClassVar[str] = "delegate"
    outputs: dict[str, Any]


class ErrorObservation(Observation):
    """A failure; the agent may continue. `error_id` may be a translation key."""

    kind: ClassVar[str] = "error"
    wording: ClassVar[str] = "{content}"
    error_id: str = ""


class AgentStateChangedObservation(Observation):
    """The agent loop is in a state; `reason` says why it is `error` or `rate_limited`.

    `approvals` names the actions that wait for a person, ascending; it is absent where none does.
    `allowed` are the kinds of action that need no agreement in this conversation, likewise.
    """

    kind: ClassVar[str] = "agent_state_changed"
    omitted: ClassVar[frozenset[str]] = frozenset(("approvals", "allowed"))
    agent_state: str
    reason: str = ""
    approvals: list[int] | None = None
    allowed: list[str] | None = None


class TurnEndedObservation(Observation):
    """The agent's turn, named by `turn`, is over; clients of the socket are not sent it.

    `outcome` is one of `done`, `waiting` (for a person), `stopped`, `interrupted` (by the end of the
    server), `replaced`, `failed`, `timed_out`, `budget`, `crashed`; `reason` says more. Every user
    message with an id below `open_from` has been dealt with. `usage` is what the turn's calls of
    models used: `prompt_tokens`, `completion_tokens`, and `cost` in USD, null where no price is known;
    it is absent where nothing was reported.
    """

    kind: ClassVar[str] = "turn_ended"
    omitted: ClassVar[frozenset[str]] = frozenset(("usage",))
    outcome: str
    reason: str = ""
    open_from: int = 0
    usage: dict[str, Any] | None = None


class UserRejectObservation(Observation):
    """A person refused an action."""

    kind: ClassVar[str] = "user_rejected"
    wording: ClassVar[str] = "{content}"


class RecallObservation(Observation):
    """Knowledge recalled from memory. `runtime_hosts` maps URLs to ports."""

    kind: ClassVar[str] = "recall"
    recall_type: RecallType
    repo_name: str = ""
    repo_directory: str = ""
    repo_branch: str = ""
    repo_instructions: str = ""
    runtime_hosts: dict[str, int] = Field(default_factory=dict)
    additional_agent_instructions: str = ""
    date: str = ""
    custom_secrets_descriptions: dict[str, str] = Field(default_factory=dict)
    conversation_instructions: str = ""
    working_dir: str = ""
    microagent_knowledge: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def message(self) -> str:
        """Which of the two sorts of knowledge was added."""
        if self.recall_type is RecallType.WORKSPACE_CONTEXT:
            return "Added workspace context"
        return "Added microagent knowledge"


class MCPObservation(Observation):
    """The response of a connected tool."""

    kind: ClassVar[str] = "mcp"
    wording: ClassVar[str] = "{content}"
    name: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)


class TaskTrackingObservation(Observation):
    """The task list."""

    kind: ClassVar[str] = "task_tracking"
    wording: ClassVar[str] = "{content}"
    command: str = ""
    task_list: list[dict[str, Any]] = Field(default_factory=list)


class AgentThinkObservation(Observation):
    """A thought was noted."""

    kind: ClassVar[str] = "think"
    wording: ClassVar[str] = "{content}"


class AgentCondensationObservation(Observation):
    """The agent's history was condensed."""

    kind: ClassVar[str] = "condense"
    wording: ClassVar[str] = "{content}"


class SuccessObservation(Observation):
    """An action without a result of its own succeeded."""

    kind: ClassVar[str] = "success"
    wording: ClassVar[str] = "{content}"


class FileDownloadObservation(Observation):
    """The browser downloaded a file."""

    kind: ClassVar[str] = "download"
    wording: ClassVar[str] = "Downloaded the file at location: {file_path}"
    file_path: str


class LoopDetectionObservation(Observation):
    """The agent was found repeating itself."""

    kind: ClassVar[str] = "loop_detection"


class NullObservation(Observation):
    """Nothing."""

    kind: ClassVar[str] = "null"
    wording: ClassVar[str] = "No observation"


OBSERVATIONS: dict[str, type[Observation]] = {
    declared.kind: declared for declared in Observation.__subclasses__()
}
"""Every declared observation, by its wire name."""
