"""The workspace: paths, files, folders and their bounds."""

import pytest

from runtime_stub.errors import BadWorkspacePath, FileMissing, NotText, WorkspaceError
from runtime_stub.repository import Repository
from runtime_stub.workspace import Workspace, resolve


@pytest.mark.parametrize(
    ("path", "base", "found"),
    [
        ("a", "/workspace", "/workspace/a"),
        ("a/", "/workspace", "/workspace/a"),
        ("./a//b/../c", "/workspace/d", "/workspace/d/a/c"),
        ("/workspace/a", "/workspace/d", "/workspace/a"),
        ("//workspace", "/workspace", "/workspace"),
        ("..", "/workspace/d", "/workspace"),
        ("grüße \u3000.txt", "/workspace", "/workspace/grüße \u3000.txt"),
    ],
)
def test_a_path_has_one_canonical_form(path, base, found):
    assert resolve(path, base) == found


@pytest.mark.parametrize(
    "path",
    [
        "",
        "..",
        "/",
        "/workspacex",
        "a/../../../workspace2",
        "a\x7fb",
        "a\u2028b",
        "\ud800",
        "x" * 256,
        "ü" * 128,
        "a/" * 2100,
    ],
)
def test_a_bad_path_is_refused(path):
    with pytest.raises(BadWorkspacePath):
        resolve(path)


def test_a_path_that_is_too_long_once_resolved_is_refused():
    with pytest.raises(BadWorkspacePath, match="too long"):
        resolve("a/" * 1000, "/workspace/" + "b/" * 1500)


def test_the_size_follows_writes_overwrites_and_removals():
    workspace = Workspace(max_bytes=10)
    workspace.write("/workspace/a", b"12345678")
    workspace.write("/workspace/a", b"1234")
    workspace.write("/workspace/b", b"123456")

    with pytest.raises(WorkspaceError, match="may not exceed 10 bytes"):
        workspace.write("/workspace/a", b"12345")
    assert workspace.read("/workspace/a") == b"1234"

    workspace.remove("/workspace/b")
    workspace.write("/workspace/a", b"1234567890")
    assert workspace.used_bytes == 10


def test_files_and_folders_are_bounded_in_number():
    workspace = Workspace(max_entries=3)
    workspace.write("/workspace/a/b", b"")

    with pytest.raises(WorkspaceError, match="entries"):
        workspace.make_folder("/workspace/c")
    with pytest.raises(WorkspaceError, match="entries"):
        workspace.write("/workspace/c", b"")

    workspace.write("/workspace/a/b", b"more")
    workspace.make_folder("/workspace/a")


def test_a_copy_and_its_origin_go_separate_ways():
    workspace = Workspace()
    workspace.repository = repository = Repository("/workspace", 10)
    workspace.write("/workspace/a", b"1")
    twin = workspace.copy()

    twin.write("/workspace/b/c", b"2")
    twin.cwd = "/workspace/b"
    assert twin.repository is not None
    twin.repository.stage({"a": b"1"})

    assert workspace.children("/workspace") == ["a"]
    assert (workspace.cwd, workspace.used_bytes) == ("/workspace", 1)
    assert repository.index == {}


def test_removing_a_folder_takes_all_in_it_and_nothing_beside_it():
    workspace = Workspace()
    for path in ("a/b/c", "a/d", "ab", "a.txt"):
        workspace.write(f"/workspace/{path}", b"x")
    workspace.repository = Repository("/workspace/a/b", 10)

    workspace.remove("/workspace/a")

    assert workspace.children("/workspace") == ["a.txt", "ab"]
    assert workspace.used_bytes == 2
    assert workspace.copy().repository is None


def test_the_root_and_the_folders_in_use_are_not_removed():
    workspace = Workspace()
    workspace.make_folder("/workspace/a/b")
    workspace.cwd = "/workspace/a/b"

    for path in ("/workspace", "/workspace/a", "/workspace/a/b"):
        with pytest.raises(BadWorkspacePath, match="in use"):
            workspace.remove(path)


def test_text_is_told_from_other_bytes():
    workspace = Workspace()
    workspace.write("/workspace/a", "grüße".encode())
    workspace.write("/workspace/b", b"\xff")

    assert workspace.read_text("/workspace/a") == "grüße"
    with pytest.raises(NotText):
        workspace.read_text("/workspace/b")
    with pytest.raises(FileMissing):
        workspace.read_text("/workspace/c")
