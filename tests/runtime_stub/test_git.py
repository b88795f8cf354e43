"""The `git` command and the history behind it."""

import pytest

from runtime_stub.workspace import Workspace
from tests.support.shell import run


@pytest.fixture
def workspace() -> Workspace:
    workspace = Workspace()
    run(workspace, "git init; echo 1 > a; git add a; git commit -m first")
    return workspace


def said(workspace: Workspace, line: str) -> tuple[str, int]:
    outcome = run(workspace, line)
    return outcome.output.decode(), outcome.exit_code


def test_a_repository_starts_empty_on_main():
    workspace = Workspace()

    assert said(workspace, "git init") == (
        "Initialized empty Git repository in /workspace/.git/\n",
        0,
    )
    assert said(workspace, "git branch; git branch --show-current") == ("main\n", 0)
    assert said(workspace, "touch a; git status") == (
        "On branch main\n\nNo commits yet\n\nUntracked files:\n\ta\n",
        0,
    )
    assert said(workspace, "git init")[0].startswith("Reinitialized")


def test_without_a_repository_git_fails():
    fatal = "fatal: not a git repository (or any of the parent directories)\n"

    assert said(Workspace(), "git status") == (fatal, 128)


def test_a_repository_ends_where_its_folder_does():
    workspace = Workspace()
    run(workspace, "git init project; touch outside project/inside")

    assert said(workspace, "git status")[1] == 128
    assert said(workspace, "cd project; git status -s") == ("?? inside\n", 0)
    assert said(workspace, "git add ../outside")[1] == 128
    assert said(workspace, "git rev-parse --show-toplevel") == ("/workspace/project\n", 0)
    assert said(workspace, "git init /workspace")[0].startswith("fatal: the workspace has a repo")


def test_status_tells_staged_working_and_untracked_changes_apart(workspace):
    run(workspace, "echo 1 > b; echo 1 > c; git add .; git commit -m second")
    run(workspace, "echo 2 > a; git add a; echo 3 > a; rm b; echo 2 > c; git add c; touch d")

    assert said(workspace, "git status --porcelain")[0] == "MM a\n D b\nM  c\n?? d\n"
    assert said(workspace, "git status")[0] == (
        "On branch main\n\n"
        "Changes to be committed:\n\tmodified:   a\n\tmodified:   c\n\n"
        "Changes not staged for commit:\n\tmodified:   a\n\tdeleted:    b\n\n"
        "Untracked files:\n\td\n"
    )


def test_a_removal_that_is_staged_and_made_again_is_both(workspace):
    run(workspace, "rm a; git add a; touch a")

    assert said(workspace, "git status -s")[0] == "D  a\n?? a\n"


def test_a_clean_tree_says_so(workspace):
    clean = "On branch main\nnothing to commit, working tree clean\n"

    assert said(workspace, "git status") == (clean, 0)
    assert said(workspace, "git commit -m again") == (clean, 0)


def test_the_same_history_has_the_same_digests():
    lines = "git init; echo 1 > a; git add -A; git commit -m x; echo 2 > a; git commit -am y"
    first, second = Workspace(), Workspace()

    assert said(first, lines) == said(second, lines)
    assert said(first, "git rev-parse HEAD") == said(second, "git rev-parse HEAD")
    assert said(first, "git status -s") == ("", 0)


def test_a_branch_keeps_its_own_files(workspace):
    assert said(workspace, "git checkout -b side")[0] == "Switched to a new branch 'side'\n"
    run(workspace, "mkdir d; echo 2 > a; touch d/b; git add .; git commit -m side")

    assert said(workspace, "git checkout main; cat a; ls d") == (
        "Switched to branch 'main'\n1\n",
        0,
    )
    assert said(workspace, "git switch side; cat a; ls d; git branch") == (
        "Switched to branch 'side'\n2\nb\n  main\n* side\n",
        0,
    )
    assert said(workspace, "git switch side")[0] == "Already on 'side'\n"


def test_a_switch_carries_changes_over_that_do_not_collide(workspace):
    run(workspace, "git checkout -b side; echo 2 > a; git commit -am side; git switch main")

    assert said(workspace, "echo 3 > b; git switch side; cat b")[0].endswith("3\n")
    text, exit_code = said(workspace, "echo 4 > a; git switch main")
    assert (exit_code, "\ta\n" in text) == (1, True)
    assert said(workspace, "git branch --show-current; cat a") == ("side\n4\n", 0)


def test_a_switch_that_has_no_room_changes_nothing(workspace):
    run(workspace, "git checkout -b side; rm a; git commit -am side; mkdir a")

    assert said(workspace, "git switch main")[1] == 1
    assert said(workspace, "git branch --show-current; ls") == ("side\na\n", 0)


@pytest.mark.parametrize(
    ("line", "start", "exit_code"),
    [
        ("git", "usage: git init|", 1),
        ("git frob", "git: 'frob' is not a git command", 1),
        ("git checkout nope", "error: 'nope' did not match", 1),
        ("git checkout", "usage:", 129),
        ("git branch -d main", "usage:", 129),
        ("git branch main", "fatal: a branch named 'main' already exists", 128),
        ("git branch a..b", "fatal: 'a..b' is not a valid branch name", 128),
        ("git checkout -b b.lock", "fatal: 'b.lock' is not a valid", 128),
        ("git add", "Nothing specified", 0),
        ("git add nope", "fatal: pathspec 'nope' did not match", 128),
        ("git add ../x", "../x: the path leaves the workspace", 1),
        ("git commit", "usage:", 129),
        ("git rev-parse x", "fatal: ambiguous argument", 128),
        ("git rev-parse --abbrev-ref HEAD", "main\n", 0),
    ],
)
def test_what_git_cannot_do_it_says(workspace, line, start, exit_code):
    text, code = said(workspace, line)

    assert text.startswith(start)
    assert code == exit_code


def test_before_the_first_commit_branches_have_no_name_to_point_at():
    workspace = Workspace()
    run(workspace, "git init")

    assert said(workspace, "git branch side")[1] == 128
    assert said(workspace, "git commit -m empty") == ("nothing to commit\n", 1)
    assert said(workspace, "git checkout -b side; git branch --show-current")[0].endswith("side\n")


def test_a_history_is_bounded_like_the_workspace():
    workspace = Workspace(max_bytes=100)
    workspace.write("/workspace/a", b"x" * 60)
    run(workspace, "git init; git add a; git commit -m one")
    workspace.write("/workspace/a", b"y" * 60)

    assert said(workspace, "git add a")[0].startswith("fatal: the repository may not exceed")
    for number in range(99):
        assert said(workspace, f"git branch b{number}") == ("", 0)
    assert said(workspace, "git branch one-more")[0].startswith("fatal: more than 100 branches")
