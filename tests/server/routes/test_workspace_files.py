"""The files of a workspace, while a runtime is up and while only a snapshot is kept."""

from datetime import UTC, datetime, timedelta

import pytest

from server.routes.workspace_files import IMAGE_BYTES, MOST_ENTRIES, PREVIEW_BYTES
from storage.workspaces.snapshot import Snapshot
from tests.support.rest import EVERY, assert_refused, rest_server

ONE = f"{EVERY}/c1"
PNG = b"\x89PNG\r\n\x1a\n" + b"a picture"
SECRET = "hunter2hunter2"  # noqa: S105 - made up
FILES = {
    "notes.txt": b"Water the plants\n",
    "src/main.py": b"print(1)\n",
    "src/deep/er.txt": b"",
    "page.html": b"<script>alert(1)</script>",
    "picture": PNG,
    "bytes": b"\x00\xff",
}
WAYS = ["running", "kept"]


@pytest.fixture(params=WAYS)
async def files(request, rest):
    """A conversation with files, whose runtime is up or has been closed; which of the two."""
    await with_files(rest, FILES, running=request.param == "running")
    return request.param


async def with_files(rest, files, *, running):
    await rest.keep("c1", None)
    await rest.ask("POST", f"{ONE}/start", json={})
    await rest.wait_until_idle("c1")
    async with rest.application.manager.attach("c1", None) as conversation:
        for path, content in files.items():
            await conversation.loop.runtime.write_file(path, content)
    if not running:
        await rest.ask("POST", f"{ONE}/stop")


async def entries(rest, path=""):
    answer = await rest.ask("GET", f"{ONE}/workspace", params={"path": path})
    assert answer.status_code == 200, answer.text
    return [(one["kind"], one["name"], one["path"]) for one in answer.json()["entries"]]


async def test_a_folder_is_listed_folders_first(rest, files):
    assert await entries(rest) == [
        ("folder", "src", "src"),
        ("file", "bytes", "bytes"),
        ("file", "notes.txt", "notes.txt"),
        ("file", "page.html", "page.html"),
        ("file", "picture", "picture"),
    ]
    assert await entries(rest, "src") == [
        ("folder", "deep", "src/deep"),
        ("file", "main.py", "src/main.py"),
    ]
    assert await entries(rest, "/workspace/src/../src/deep/") == [
        ("file", "er.txt", "src/deep/er.txt")
    ]


async def test_the_answer_tells_whether_a_runtime_is_up_or_since_when_the_files_are_kept(
    rest, files
):
    answer = (await rest.ask("GET", f"{ONE}/workspace")).json()

    assert answer["running"] == (files == "running")
    sizes = {one["name"]: one["size"] for one in answer["entries"]}
    if files == "running":
        assert answer["kept_at"] is None
        assert set(sizes.values()) == {None}
    else:
        age = datetime.now(UTC) - datetime.fromisoformat(answer["kept_at"])
        assert timedelta(0) <= age < timedelta(minutes=5)
        assert (sizes["notes.txt"], sizes["src"]) == (len(FILES["notes.txt"]), None)


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("notes.txt", "text", "Water the plants\n"),
        ("src/deep/er.txt", "text", ""),
        ("page.html", "text", "<script>alert(1)</script>"),
        ("picture", "image", None),
        ("bytes", "other", None),
    ],
)
async def test_a_preview_shows_a_text_or_says_what_it_is(rest, files, path, kind, text):
    answer = await rest.ask("GET", f"{ONE}/workspace/preview", params={"file": path})

    assert answer.json() == {
        "path": path,
        "kind": kind,
        "size": len(FILES[path]),
        "text": text,
        "cut": False,
    }


@pytest.mark.parametrize("path", FILES)
async def test_a_download_is_the_file_and_nothing_a_browser_runs(rest, files, path):
    answer = await rest.ask("GET", f"{ONE}/workspace/download", params={"file": path})

    assert answer.content == FILES[path]
    name = path.rpartition("/")[2]
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{name}"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"].split("; ")
    expected = "image/png" if path == "picture" else "application/octet-stream"
    assert answer.headers["content-type"] == expected
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\nb", "a\0b", "x" * 5000])
@pytest.mark.parametrize(
    "what", ["workspace?path=", "workspace/preview?file=", "workspace/download?file="]
)
async def test_a_path_that_leaves_the_workspace_is_refused(rest, files, what, path):
    address, _, name = what.partition("?")
    answer = await rest.ask("GET", f"{ONE}/{address}", params={name.removesuffix("="): path})

    assert_refused(answer, 400, "bad_path")


@pytest.mark.parametrize("path", ["missing", "src/missing", "notes.txt/x"])
async def test_what_is_not_there_is_not_found(rest, files, path):
    for address, name in (
        ("workspace", "path"),
        ("workspace/preview", "file"),
        ("workspace/download", "file"),
    ):
        answer = await rest.ask("GET", f"{ONE}/{address}", params={name: path})
        assert answer.status_code in (400, 404), answer.text
        assert answer.json()["code"] in ("file_not_found", "bad_path")


async def test_a_file_is_no_folder_and_a_folder_no_file(rest, files):
    listed = await rest.ask("GET", f"{ONE}/workspace?path=notes.txt")
    shown = await rest.ask("GET", f"{ONE}/workspace/preview?file=src")

    assert listed.status_code == 404
    assert shown.status_code in (400, 404)


@pytest.mark.parametrize(
    "path", ["/workspace", "/workspace/preview?file=a", "/workspace/download?file=a"]
)
async def test_of_an_unknown_conversation_nothing_is_answered(rest, path):
    assert_refused(await rest.ask("GET", ONE + path), 404, "conversation_not_found")


async def test_of_a_workspace_that_was_never_used_there_are_no_files_and_none_is_started(rest):
    await rest.keep("c1", None)

    answer = await rest.ask("GET", f"{ONE}/workspace")

    expected = {"path": "", "running": False, "kept_at": None, "entries": [], "more": 0}
    assert answer.json() == expected
    for path in ("/workspace?path=a", "/workspace/preview?file=a"):
        assert_refused(await rest.ask("GET", ONE + path), 404, "file_not_found")
    assert await rest.application.manager.get_agent_loop_info() == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_long_text_is_cut_and_a_secret_at_the_cut_is_not_shown_in_half(rest, way):
    await rest.ask("POST", "/api/secrets", json={"name": "PASSWORD", "value": SECRET})
    before = PREVIEW_BYTES - len(SECRET) // 2
    text = f"{SECRET}\n".ljust(before, "x") + SECRET + "y" * 1000
    await with_files(rest, {"long": text.encode()}, running=way == "running")

    answer = (await rest.ask("GET", f"{ONE}/workspace/preview?file=long")).json()

    assert (answer["cut"], answer["size"]) == (True, len(text))
    assert SECRET[:6] not in answer["text"]
    assert answer["text"].endswith("x")


@pytest.mark.parametrize("way", WAYS)
async def test_a_text_is_cut_between_two_characters(rest, way):
    text = "\N{SNOWMAN}" * PREVIEW_BYTES
    await with_files(rest, {"long": text.encode()}, running=way == "running")

    answer = (await rest.ask("GET", f"{ONE}/workspace/preview?file=long")).json()

    assert set(answer["text"]) == {"\N{SNOWMAN}"}
    assert PREVIEW_BYTES // 3 - 1 <= len(answer["text"]) <= PREVIEW_BYTES // 3


async def test_a_picture_that_is_too_large_is_not_shown(rest):
    await with_files(rest, {"picture": PNG + bytes(IMAGE_BYTES)}, running=True)

    answer = (await rest.ask("GET", f"{ONE}/workspace/preview?file=picture")).json()

    assert (answer["kind"], answer["text"]) == ("other", None)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "application/octet-stream"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "application/octet-stream"),
    ],
)
async def test_a_type_follows_from_how_a_file_begins_and_never_is_a_page(rest, content, kind):
    await with_files(rest, {"a.html": content}, running=True)

    answer = await rest.ask("GET", f"{ONE}/workspace/download?file=a.html")

    assert answer.headers["content-type"] == kind


async def test_names_that_nobody_looks_for_are_left_out(rest):
    names = (".git/config", "node_modules/x", "__pycache__/y", "lost+found/z", ".vscode/a", ".env")
    await with_files(rest, dict.fromkeys(names, b""), running=False)

    assert await entries(rest) == [("file", ".env", ".env")]


async def test_a_secret_in_a_name_is_masked(rest):
    await rest.ask("POST", "/api/secrets", json={"name": "PASSWORD", "value": SECRET})
    await with_files(rest, {f"{SECRET}.txt": b""}, running=False)

    ((_, name, path),) = await entries(rest)

    assert SECRET not in name + path


async def test_a_folder_with_very_many_names_is_listed_in_part(rest):
    await rest.keep("c1", None)
    await with_files(rest, {"a": b""}, running=False)
    files = {f"f{number:05}": b"" for number in range(MOST_ENTRIES + 7)}
    await rest.workspaces.save("c1", Snapshot(files=files))

    answer = (await rest.ask("GET", f"{ONE}/workspace")).json()

    assert (len(answer["entries"]), answer["more"]) == (MOST_ENTRIES, 7)


async def test_a_conversation_of_another_user_has_no_files_for_this_one():
    here = "tests.support.extensions:HeaderAuth"
    ann, bob = ({"x-forwarded-user": name} for name in ("ann", "bob"))
    async with rest_server(user_auth_class=here) as rest:
        created = await rest.ask("POST", EVERY, json={}, headers=ann)
        address = f"{EVERY}/{created.json()['conversation_id']}/workspace"

        assert (await rest.ask("GET", address, headers=ann)).status_code == 200
        assert_refused(await rest.ask("GET", address, headers=bob), 404, "conversation_not_found")
