"""Logging: one line per event on stderr, JSON or text, ids from the context, secrets masked.

Modules log with `structlog.get_logger(__name__)`. The ids of a line come from
`structlog.contextvars.bound_contextvars(request_id=..., conversation_id=..., connection_id=...)`;
work that outlives who began it runs in a `context_of` its own ids. Exceptions are written without
what they may quote (server/observability/logs.py).
"""

import logging
import re
import sqlite3
import sys
import traceback
from collections.abc import Mapping
from contextvars import Context
from types import TracebackType
from typing import Literal, Self, TypeAlias

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]

OWN = ("server", "events", "storage", "runtime_stub")
PROGRAM_FAULTS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    MemoryError,
    NameError,
    OSError,
    RecursionError,
    TypeError,
    sqlite3.Error,
)
"""Their texts are made by the interpreter, the system or the database."""
LEFT_OUT = "(text left out)"
DEEPEST = 10
"""Causes and members of groups that are written out at most."""


def without_quotes(error: BaseException) -> str:
    """Return `Type: text`, the text only for errors that quote nothing of users or agents.

    Those are our own and PROGRAM_FAULTS. Others, a ValueError as well as an agent's own kind, may
    hold the text they could not deal with.
    """
    kind = type(error)
    name = kind.__qualname__
    own = kind.__module__.partition(".")[0] in OWN
    quotes = getattr(kind, "quotes", False)
    if not own:
        name = name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
    is_safe = (own and not quotes) or _is_made_below(kind)
    text = str(error) if is_safe else LEFT_OUT
    return f"{name}: {text}" if text else name


def written(exc_info: ExcInfo | None) -> str:
    """Return a traceback with its causes, the first cause first."""
    found: list[BaseException] = []
    _gather((exc_info or sys.exc_info())[1], found)
    return "\n".join(_one(error) for error in reversed(found))


def _is_made_below(kind: type[BaseException]) -> bool:
    # Subclasses by others may carry other texts, those of the interpreter and of sqlite3 do not.
    return issubclass(kind, PROGRAM_FAULTS) and kind.__module__ in ("builtins", "sqlite3")


def _gather(error: BaseException | None, found: list[BaseException]) -> None:
    """Collect an error, the errors it groups, and its causes; the root cause is last."""
    if error is None or len(found) >= DEEPEST or any(one is error for one in found):
        return
    found.append(error)
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            _gather(member, found)
    before = error.__context__ if not error.__suppress_context__ else None
    _gather(error.__cause__ or before, found)


def _one(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{without_quotes(error)}"


class FaultCounts(logging.Handler):
    """Counts warnings and errors within the `with` block, except those below the log level."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.warnings = 0
        self.errors = 0

    def emit(self, record: logging.LogRecord) -> None:
        """See Handler."""
        if record.levelno >= logging.ERROR:
            self.errors += 1
        else:
            self.warnings += 1

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        logging.getLogger().removeHandler(self)


MASK = "******"
IDS = ("conversation_id", "connection_id")
"""Keys of `extra` that a line of the standard library's loggers carries."""

_LIBRARY_FLOORS = {
    "uvicorn": logging.INFO,
    "uvicorn.error": logging.INFO,
    "uvicorn.access": logging.INFO,
    # Three lines for each connection, which take longer than what it is there for.
    "uvicorn.websocket": logging.WARNING,
    "asyncio": logging.WARNING,
    # It writes out each query with its values.
    "aiosqlite": logging.INFO,
    # Below a warning these two write out whole packets, and without a level of their own they
    # install handlers of their own.
    "engineio": logging.WARNING,
    "engineio.server": logging.WARNING,
    # They write out addresses, headers and bodies of requests to models.
    **dict.fromkeys(("anthropic", "google_genai", "httpcore", "httpcore2"), logging.WARNING),
    **dict.fromkeys(("httpx", "httpx2", "openai", "pydantic_ai"), logging.WARNING),
    # They write out what tool servers send.
    "client": logging.CRITICAL,
    "mcp": logging.CRITICAL,
    "socketio": logging.WARNING,
    "socketio.server": logging.WARNING,
}
_SECRET_NAME = re.compile(
    r"token|secret|password|authorization|cookie|(^|[_-])(api)?key$", re.IGNORECASE
)
_SECRET_IN_TEXT = re.compile(
    r"""((?:session_)?api_key=|x-session-api-key\W{1,4}|authorization\W{1,4}(?:bearer\s+)?)"""
    r"""[^\s&"'<>]+|(cookie\W{1,4})[^"'\r\n]+""",
    re.IGNORECASE,
)


def configure(level: str, log_format: Literal["json", "console"]) -> None:
    """Send the records of structlog and of the standard library to stderr, from `level` upwards.

    Replaces what an earlier call installed. `level` is a name of the standard library's levels in
    any case. The server's own runner must start uvicorn with `log_config=None`.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=IDS), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(written),
                mask_secrets,
                _renderer(log_format),
            ],
        )
    )
    chosen = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(chosen)
    for name, floor in _LIBRARY_FLOORS.items():
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = True
        library.setLevel(max(chosen, floor))


def context_of(**ids: str) -> Context:
    """Return a context that binds these ids and nothing else.

    For tasks that are no part of the request or connection that happens to begin them.
    """
    context = Context()
    context.run(structlog.contextvars.bind_contextvars, **ids)
    return context


def mask_secrets(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Mask values whose names look like secrets, and keys and credentials inside any text.

    Numbers and flags stay: a count of tokens is not a token.
    """
    return {name: _masked(value, name) for name, value in event_dict.items()}


def _masked(value: object, name: str = "") -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAME.search(name):
        return MASK
    if isinstance(value, str):
        return _SECRET_IN_TEXT.sub(rf"\1\2{MASK}", value)
    if isinstance(value, Mapping):
        return {key: _masked(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(inner) for inner in value]
    return _masked(repr(value))


def _renderer(log_format: Literal["json", "console"]) -> Processor:
    if log_format == "json":
        # The standard json module, since a log line may hold what a faster one refuses to write.
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
