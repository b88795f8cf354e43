"""The `parley` command: serve, config, check."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from events.stores.opening import storage_problems
from server.components import load_components, load_tracing
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.packaging import DISTRIBUTION, packaging_problems
from server.process.runner import run
from storage.backends import backend_of
from storage.errors import StorageError
from storage.inventory import T, Track, untracked

EXIT_PROBLEMS = 1
EXIT_USAGE = 2


OPTIONS = {"agent_class": "agent"}
"""Options whose name is not that of their setting, by the setting."""


def _described(field: str) -> Parameter:
    return Parameter(help=ServerConfig.model_fields[field].description, negative=())


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The settings that have an option; None leaves a setting to the other sources."""

    host: Annotated[str | None, _described("host")] = None
    port: Annotated[int | None, _described("port")] = None
    data_dir: Annotated[Path | None, _described("data_dir")] = None
    storage: Annotated[Literal["sqlite", "local", "memory"] | None, _described("storage_kind")] = (
        None
    )
    agent: Annotated[str | None, _described("agent_class")] = None
    runtime: Annotated[Literal["memory", "local"] | None, _described("runtime_kind")] = None
    ui_dir: Annotated[Path | None, _described("ui_dir")] = None
    insecure: Annotated[bool | None, _described("insecure")] = None
    config: Annotated[
        Path | None, Parameter(help="Settings file to read instead of ./parley.toml.")
    ] = None

    def load(self) -> ServerConfig:
        """Read all sources, these options first. Raises ConfigError."""
        overrides = {
            "host": self.host,
            "port": self.port,
            "data_dir": self.data_dir,
            "storage_kind": self.storage,
            "agent_class": self.agent,
            "runtime_kind": self.runtime,
            "ui_dir": self.ui_dir,
            "insecure": self.insecure,
        }
        return ServerConfig.load(overrides, toml_path=self.config)


NO_OPTIONS = Options()

app = App(
    name="parley",
    help="The conversation server for AI agents.",
    help_format="plaintext",
    version=lambda: version(DISTRIBUTION),
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
)


@app.command
def serve(options: Options = NO_OPTIONS) -> int:
    """Run the server until SIGTERM or Ctrl-C."""
    return run(options.load())


@app.command(name="config")
def show_config(options: Options = NO_OPTIONS) -> int:
    """Print the effective settings as JSON, with secrets masked."""
    print(json.dumps(options.load().masked(), indent=2))
    return 0


@app.command
def check(options: Options = NO_OPTIONS) -> int:
    """Check the installation, the settings and the stored data, without changing anything."""
    config = options.load()
    found = {
        "settings": [],
        "packaging": list(packaging_problems()),
        "classes": class_problems(config),
    }
    with _shown_progress() as track:
        found["storage"] = storage_problems(config.storage, track)
    there = {"storage": backend_of(config.storage).describe()}
    for subject, problems in found.items():
        print(f"{subject}: {'; '.join(problems) or there.get(subject, 'ok')}")
    return EXIT_PROBLEMS if any(found.values()) else 0


@contextmanager
def _shown_progress() -> Iterator[Track]:
    """Give a `track` that draws a bar for each subject on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield untracked
        return
    from rich.console import Console  # noqa: PLC0415 - for this command only
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:

        def track(items: Iterable[T], subject: str, total: int, /) -> Iterable[T]:
            return progress.track(items, total=total, description=subject)

        yield track


def class_problems(config: ServerConfig) -> Sequence[str]:
    """Return what is wrong with the first setting that names an unusable class."""
    try:
        load_components(config).runtimes(config)
        load_tracing(config.otel_endpoint)
    except ConfigError as error:
        return [str(error)]
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, `sys.argv` by default, and return its exit code.

    0 is success, 1 a failed check, 2 a bad command or setting, reported in one line on stderr.
    """
    try:
        result = app(list(sys.argv[1:] if arguments is None else arguments))
    except (ConfigError, CycloptsError, StorageError, OSError) as error:
        print("parley:", " ".join(_text_of(error).split()), file=sys.stderr)
        return EXIT_USAGE
    return result if isinstance(result, int) else 0


def _text_of(error: Exception) -> str:
    """Return the error's text for people, without the error number of the system's errors."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
