"""What an agent loop needs to know of its user's settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Limits and manners of one agent loop.

    `max_iterations` counts agent steps and `max_budget_per_task` is in USD (None: no limit);
    reaching one ends in the state `error`, and going on raises it by as much again.
    """

    max_iterations: int = 500
    max_budget_per_task: float | None = None
    confirmation_mode: bool = False
    action_timeout_seconds: float = 120.0
