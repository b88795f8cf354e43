"""Agent states and action kinds, classified for the loop."""

from dataclasses import dataclass

from events.event import AgentState


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """The limits and options of one agent loop.

    `max_iterations` counts agent steps and `max_budget_per_task` is in USD (None: no limit);
    reaching one ends in the state `error`, and continuing extends it by the same amount.
    """

    max_iterations: int = 500
    max_budget_per_task: float | None = None
    confirmation_mode: bool = False
    action_timeout_seconds: float = 120.0


WORKING = frozenset(
    (
        AgentState.LOADING,
        AgentState.RUNNING,
        AgentState.USER_CONFIRMED,
        AgentState.USER_REJECTED,
        AgentState.RATE_LIMITED,
    )
)
"""The agent is at work: its loop is not closed for being idle."""

STEPPING = frozenset(
    (AgentState.RUNNING, AgentState.USER_CONFIRMED, AgentState.USER_REJECTED),
)
"""States in which a task of the loop runs, which checks for new messages before it ends."""

RESTING = frozenset(
    (
        AgentState.AWAITING_USER_INPUT,
        AgentState.PAUSED,
        AgentState.STOPPED,
        AgentState.FINISHED,
        AgentState.REJECTED,
        AgentState.ERROR,
    )
)
"""States without an action in progress: every earlier action has an observation."""

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
"""Kinds of action that the runtime answers with an observation."""

CONFIRMABLE = frozenset(("run", "run_ipython", "browse_interactive", "edit", "read"))
"""Kinds of action that wait for the user's confirmation in confirmation mode."""

TROUBLED = frozenset((AgentState.ERROR, AgentState.RATE_LIMITED))
"""States whose cause must be in the log, since the agent does not continue."""

ERROR_ID = "STATUS$ERROR"
RATE_LIMIT_ID = "CHAT_INTERFACE$AGENT_RATE_LIMITED_STOPPED_MESSAGE"
STOPPED_ID = "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_STOPPED"
FAILED_ID = "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_ERROR"
NOT_EXECUTED = "The action has not been executed because the agent {why}."
