"""Kinds of action, classified for a turn, and the errors that stand for actions left undone."""

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
"""Kinds of action that wait for the user's word in confirmation mode."""

STOPPED_ID = "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_STOPPED"
FAILED_ID = "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_ERROR"
NOT_EXECUTED = "The action has not been executed because the agent {why}."
REJECTED_TEXT = "Action has been rejected by the user! Waiting for further user input."
