"""The outcome of one shell command."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`output` can be redirected, `errors` cannot; `pause_seconds` is waited before going on."""

    output: bytes = b""
    errors: str = ""
    exit_code: int = 0
    pause_seconds: float = 0.0


def printed(*lines: str) -> Outcome:
    """Succeed and print `lines`."""
    return Outcome(output="".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))


def failed(*lines: str, exit_code: int = 1) -> Outcome:
    """Fail and say `lines`."""
    return Outcome(errors="".join(f"{line}\n" for line in lines), exit_code=exit_code)
