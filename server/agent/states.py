"""Agent states, classified for the loop, and the settings of one."""

from dataclasses import dataclass

from events.event import AgentState


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """The limits and options of one agent loop.

    `max_iterations` counts an agent's actions and model calls, and `max_budget_per_task` is in USD
    (None: no limit); reaching one ends in the state `error`, and continuing extends it by the same
    amount. A turn may take `turn_seconds`, and may be silent for `quiet_seconds`. One that a crash or
    the end of the server cut short is begun `turn_tries` times in all if its agent `resumes`. One that
    waits for nothing but decisions of people ends after `approval_patience` seconds.
    """

    max_iterations: int = 500
    max_budget_per_task: float | None = None
    confirmation_mode: bool = False
    action_timeout_seconds: float = 120.0
    turn_seconds: float = 1800.0
    quiet_seconds: float = 120.0
    turn_tries: int = 2
    approval_patience: float = 60.0


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

TROUBLED = frozenset((AgentState.ERROR, AgentState.RATE_LIMITED))
"""States whose cause must be in the log, since the agent does not continue."""
