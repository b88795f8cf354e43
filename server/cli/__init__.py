"""The `parley` command: serve, config, check, and what is done with whole storages.

`app` here names every command; what those on whole storages do is in `transfer`, imported by them
only, since a start of the server must not wait for it.
"""

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from events.stores.opening import storage_problems
from server.cli.options import NO_OPTIONS, OPTIONS, Options, StorageKind
from server.cli.progress import shown_progress
from server.components import load_components, load_tracing
from server.config.settings import ServerConfig
from server.config.sources import ConfigError
from server.packaging import DISTRIBUTION, packaging_problems
from server.process.runner import run
from storage.backends import backend_of
from storage.errors import StorageError

EXIT_PROBLEMS = 1
EXIT_USAGE = 2


__all__ = ["OPTIONS", "Options", "app", "main"]

REPORT_HELP = "A file to write a line of JSON to for each conversation."
USER_HELP = "The id of the user."
ANONYMOUS_HELP = "The user without an id, whom a server has that does not tell users apart."
CONFIG_HELP = "Settings file to read instead of ./parley.toml."

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
def check(
    options: Options = NO_OPTIONS,
    *,
    repair: Annotated[
        bool,
        Parameter(
            help="First make anew what is derived from the logs. No server may be running.",
            negative=(),
        ),
    ] = False,
) -> int:
    """Check the installation, the settings and the stored data; without --repair, change nothing."""
    config = options.load()
    if repair:
        from server.cli.transfer import repair_storage  # noqa: PLC0415 - for this command only

        repair_storage(config)
    found = {
        "settings": [],
        "packaging": list(packaging_problems()),
        "classes": class_problems(config),
    }
    with shown_progress() as track:
        found["storage"] = storage_problems(config.storage, track)
    there = {"storage": backend_of(config.storage).describe()}
    for subject, problems in found.items():
        print(f"{subject}: {'; '.join(problems) or there.get(subject, 'ok')}")
    return EXIT_PROBLEMS if any(found.values()) else 0


@app.command
def copy(
    *,
    from_: Annotated[StorageKind, Parameter(name="--from", help="The kind of storage to read.")],
    to: Annotated[StorageKind, Parameter(help="The kind of storage to write.")],
    from_dir: Annotated[Path | None, Parameter(help="Its directory; that of the settings.")] = None,
    to_dir: Annotated[Path | None, Parameter(help="The directory to write to.")] = None,
    report: Annotated[Path | None, Parameter(help=REPORT_HELP)] = None,
    config: Annotated[Path | None, Parameter(help=CONFIG_HELP)] = None,
) -> int:
    """Copy a storage into another of any kind, without a server; may be begun again."""
    from server.cli import transfer  # noqa: PLC0415 - for this command only

    source = transfer.storage_of(from_, from_dir, config)
    return transfer.copy_storage(source, transfer.storage_of(to, to_dir, config), report)


@app.command(name="import")
def import_(
    options: Options = NO_OPTIONS,
    *,
    from_: Annotated[
        Path, Parameter(name="--from", help="The directory of an OpenHands V0 server.")
    ],
    zone: Annotated[
        str | None, Parameter(help="The time zone of that server, such as Europe/Berlin.")
    ] = None,
    dry_run: Annotated[bool, Parameter(help="Read and report, but write nothing.", negative=())] = (
        False
    ),
    report: Annotated[Path | None, Parameter(help=REPORT_HELP)] = None,
) -> int:
    """Import the data of an OpenHands V0 server, without a server; may be begun again."""
    from server.cli import transfer  # noqa: PLC0415 - for this command only

    return transfer.import_v0(options.load(), from_, zone, report, dry_run=dry_run)


@app.command
def reindex(options: Options = NO_OPTIONS) -> int:
    """Make the index of full-text search anew from what is stored. No server may be running."""
    from server.cli.transfer import reindex_storage  # noqa: PLC0415 - for this command only

    reindex_storage(options.load())
    return 0


@app.command
def migrate(
    options: Options = NO_OPTIONS,
    *,
    contract: Annotated[
        bool,
        Parameter(
            help="Also remove what only older versions need; run it once no server of an older one is left.",
            negative=(),
        ),
    ] = False,
) -> int:
    """Bring the schema of a PostgreSQL database up to date, as a server does at its start."""
    from server.cli.transfer import migrate_storage  # noqa: PLC0415 - for this command only

    migrate_storage(options.load(), contract=contract)
    return 0


@app.command
def backup(file: Path, options: Options = NO_OPTIONS) -> int:
    """Write everything that a storage keeps into one file, also while a server works on it."""
    from server.cli import transfer  # noqa: PLC0415 - for this command only

    return transfer.back_up(options.load(), file)


@app.command
def verify(file: Path) -> int:
    """Read a backup whole, and say what is in it."""
    from server.cli import transfer  # noqa: PLC0415 - for this command only

    return transfer.show_archive(file)


@app.command
def restore(
    file: Path,
    options: Options = NO_OPTIONS,
    *,
    at: Annotated[
        str | None, Parameter(help="Restore it as it was then, such as 2026-05-04T12:00:00Z.")
    ] = None,
    report: Annotated[Path | None, Parameter(help=REPORT_HELP)] = None,
) -> int:
    """Restore a backup into a new storage of any kind, without a server."""
    from server.cli import transfer  # noqa: PLC0415 - for this command only

    return transfer.restore_archive(options.load(), file, at, report)


@app.command
def export(
    file: Path,
    options: Options = NO_OPTIONS,
    *,
    user: Annotated[str | None, Parameter(help=USER_HELP)] = None,
    anonymous: Annotated[bool, Parameter(help=ANONYMOUS_HELP, negative=())] = False,
) -> int:
    """Write everything that is kept of one user into one file, without a server."""
    from server.cli import transfer  # noqa: PLC0415 - for this command only

    transfer.check_owner(user, anonymous=anonymous)
    return transfer.export_user(options.load(), file, user)


@app.command
def erase(
    options: Options = NO_OPTIONS,
    *,
    user: Annotated[str | None, Parameter(help=USER_HELP)] = None,
    anonymous: Annotated[bool, Parameter(help=ANONYMOUS_HELP, negative=())] = False,
    deleted: Annotated[
        bool,
        Parameter(help="Nobody: only what deleted conversations have left.", negative=()),
    ] = False,
) -> int:
    """Erase everything that is kept of one user, without a server; may be begun again."""
    from server.cli import transfer  # noqa: PLC0415 - for this command only

    if deleted:
        transfer.check_only_deleted(user, anonymous=anonymous)
        return transfer.erase_deleted(options.load())
    transfer.check_owner(user, anonymous=anonymous)
    return transfer.erase_user(options.load(), user)


@app.command
def prune(
    options: Options = NO_OPTIONS,
    *,
    dry_run: Annotated[
        bool, Parameter(help="Say what would be deleted, and delete nothing.", negative=())
    ] = False,
    clock_is_right: Annotated[
        bool,
        Parameter(help="Delete although the clock is far ahead of what is stored.", negative=()),
    ] = False,
    report: Annotated[Path | None, Parameter(help=REPORT_HELP)] = None,
) -> int:
    """Delete conversations past their age limit, without a server; may be begun again."""
    from server.cli.transfer import prune_storage, show_due  # noqa: PLC0415 - for this command only

    if dry_run:
        return show_due(options.load(), report)
    if report is not None:
        raise ConfigError("--report: goes with --dry-run")
    return prune_storage(options.load(), clock_is_right=clock_is_right)


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
