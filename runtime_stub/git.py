"""The `git` command: init, branch, checkout, switch, status, add, commit, rev-parse."""

from collections.abc import Callable, Sequence

from runtime_stub.errors import WorkspaceError
from runtime_stub.outcome import Outcome, failed, printed
from runtime_stub.repository import Repository
from runtime_stub.workspace import Workspace, resolve

FATAL = 128
_WORDS = {"A": "new file:   ", "M": "modified:   ", "D": "deleted:    "}


def git(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    """Run `git ARGUMENTS` in the current folder; the repository is replaced, never half changed."""
    if not arguments:
        return failed(f"usage: git {'|'.join(_COMMANDS)}", exit_code=1)
    name, *rest = arguments
    command = _COMMANDS.get(name)
    if command is None:
        return failed(f"git: '{name}' is not a git command.", exit_code=1)
    try:
        return command(workspace, rest)
    except WorkspaceError as error:
        text = str(error)
        return failed(text, exit_code=FATAL if text.startswith("fatal:") else 1)


def _opened(workspace: Workspace) -> Repository:
    repository = workspace.repository
    if repository is None or not f"{workspace.cwd}/".startswith(f"{repository.root}/"):
        raise WorkspaceError("fatal: not a git repository (or any of the parent directories)")
    return repository.copy()


def _init(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    folders = [argument for argument in arguments if not argument.startswith("-")]
    root = resolve(folders[0], workspace.cwd) if folders else workspace.cwd
    existing = workspace.repository
    if existing is not None:
        if existing.root != root:
            raise WorkspaceError(f"fatal: the workspace has a repository in {existing.root}")
        return printed(f"Reinitialized existing Git repository in {root}/.git/")
    workspace.make_folder(root)
    workspace.repository = Repository(root, workspace.max_bytes)
    return printed(f"Initialized empty Git repository in {root}/.git/")


def _branch(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    repository = _opened(workspace)
    match list(arguments):
        case []:
            marks = {repository.branch: "*"}
            return printed(
                *(f"{marks.get(name, ' ')} {name}" for name in sorted(repository.commits))
            )
        case ["--show-current"]:
            return printed(repository.branch)
        case [name] if not name.startswith("-"):
            repository.create_branch(name)
            workspace.repository = repository
            return Outcome()
        case _:
            return failed("usage: git branch [NAME | --show-current]", exit_code=129)


def _switch(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    repository = _opened(workspace)
    match list(arguments):
        case ["-b" | "-c", name]:
            repository.start_branch(name)
            workspace.repository = repository
            return Outcome(errors=f"Switched to a new branch '{name}'\n")
        case [name] if not name.startswith("-"):
            if name == repository.branch and repository.head is not None:
                return Outcome(errors=f"Already on '{name}'\n")
            files = repository.switch(name, workspace.repository_files(repository))
            if files is None:
                return failed(f"error: '{name}' did not match any branch known to git")
            workspace.replace_repository_files(repository, files)
            workspace.repository = repository
            return Outcome(errors=f"Switched to branch '{name}'\n")
        case _:
            return failed("usage: git checkout [-b] BRANCH", exit_code=129)


def _status(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    repository = _opened(workspace)
    found = repository.status(workspace.repository_files(repository))
    if set(arguments) & {"-s", "--short", "--porcelain"}:
        return printed(*(f"{entry.staged}{entry.working} {entry.path}" for entry in found))

    lines = [f"On branch {repository.branch}"]
    if repository.head is None:
        lines += ["", "No commits yet"]
    staged = [f"\t{_WORDS[entry.staged]}{entry.path}" for entry in found if entry.staged in _WORDS]
    working = [
        f"\t{_WORDS[entry.working]}{entry.path}" for entry in found if entry.working in _WORDS
    ]
    untracked = [f"\t{entry.path}" for entry in found if entry.staged == "?"]
    for heading, paths in (
        ("Changes to be committed:", staged),
        ("Changes not staged for commit:", working),
        ("Untracked files:", untracked),
    ):
        if paths:
            lines += ["", heading, *paths]
    if not found:
        lines += ["nothing to commit, working tree clean"]
    return printed(*lines)


def _add(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    repository = _opened(workspace)
    if not arguments:
        return failed("Nothing specified, nothing added.", exit_code=0)
    files = workspace.repository_files(repository)
    for argument in arguments:
        if argument in ("-A", "--all"):
            repository.stage(files)
            continue
        path = f"{resolve(argument, workspace.cwd)}/"
        if not path.startswith(f"{repository.root}/"):
            raise WorkspaceError(f"fatal: '{argument}' is outside the repository")
        folder = path.removeprefix(f"{repository.root}/").removesuffix("/")
        if not repository.stage(files, folder) and not workspace.is_folder(path[:-1]):
            raise WorkspaceError(f"fatal: pathspec '{argument}' did not match any files")
    workspace.repository = repository
    return Outcome()


def _commit(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    repository = _opened(workspace)
    match list(arguments):
        case ["-m" | "--message", message] if message.strip():
            pass
        case ["-am", message] if message.strip():
            tracked = workspace.repository_files(repository)
            for entry in repository.status(tracked):
                if entry.working in ("M", "D"):
                    repository.stage(tracked, entry.path)
        case _:
            return failed("usage: git commit [-a]m MESSAGE", exit_code=129)
    first = " (root-commit)" if repository.head is None else ""
    commit = repository.commit(message)
    if commit is None:
        return _status(workspace, []) if not first else failed("nothing to commit")
    workspace.repository = repository
    return printed(f"[{repository.branch}{first} {commit.digest[:7]}] {message}")


def _rev_parse(workspace: Workspace, arguments: Sequence[str]) -> Outcome:
    repository = _opened(workspace)
    match list(arguments):
        case ["--abbrev-ref", "HEAD"]:
            return printed(repository.branch)
        case ["--show-toplevel"]:
            return printed(repository.root)
        case ["HEAD"] if repository.head is not None:
            return printed(repository.head.digest)
        case _:
            raise WorkspaceError("fatal: ambiguous argument or unknown revision")


_COMMANDS: dict[str, Callable[[Workspace, Sequence[str]], Outcome]] = {
    "init": _init,
    "branch": _branch,
    "checkout": _switch,
    "switch": _switch,
    "status": _status,
    "add": _add,
    "commit": _commit,
    "rev-parse": _rev_parse,
}
