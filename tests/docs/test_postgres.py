"""The PostgreSQL for trying out: started by its script, and a server over it by the line it prints."""

import asyncio
import shlex
import shutil
import signal
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from server.config.settings import ServerConfig
from tests.support.remote import server_over
from tests.support.waiting import WAIT_SECONDS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder():
    made = Path(mkdtemp(prefix="parley-try-"))  # a socket's path must be short
    made.chmod(0o755)  # PostgreSQL's user has to reach what is in it
    yield made / "postgres"
    shutil.rmtree(made)


@asynccontextmanager
async def started(folder):
    """The line that the script prints once PostgreSQL takes connections."""
    process = await asyncio.create_subprocess_exec(
        *(ROOT / "scripts" / "postgres", folder), stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_SECONDS):
        line = (await process.stdout.readline()).decode()
        try:
            yield line
        finally:
            process.send_signal(signal.SIGINT)
            output, errors = await process.communicate()
    assert (process.returncode, output) == (0, b""), errors.decode()


async def test_a_database_to_try_out_starts_a_server_and_keeps_what_was_said(folder):
    found = []
    for _ in range(2):
        async with started(folder) as line:
            loading, command = line.strip().split("; ")[1:]
            settings = dict(
                one.split("=", 1)
                for text in Path(shlex.split(loading)[1]).read_text().splitlines()
                for one in shlex.split(text)
            )
            assert command == f"{ROOT}/scripts/serve --storage postgres"
            config = ServerConfig.load({"storage_kind": "postgres"}, settings)
            values = {name: getattr(config, name) for name in ("database_url", "secret_key")}
            async with server_over(folder, "postgres", **values) as (_, asked):
                await asked.create("hello")
                found.append(len(await asked.listed()))

    assert found == [1, 2]
    assert (folder / "parley.env").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--help"], 0, "run a PostgreSQL for trying Parley out"),
        (["-h"], 0, "run a PostgreSQL for trying Parley out"),
        (["--port"], 1, "there is no option --port"),
        (["one", "two"], 1, "give one folder"),
    ],
)
async def test_options_and_second_folders_start_no_database(tmp_path, arguments, status, said):
    process = await asyncio.create_subprocess_exec(
        *(ROOT / "scripts" / "postgres", *arguments), stdout=PIPE, stderr=PIPE, cwd=tmp_path
    )
    async with asyncio.timeout(WAIT_SECONDS):
        output, errors = await process.communicate()

    assert process.returncode == status
    assert said in (output if status == 0 else errors).decode()
    assert [*tmp_path.iterdir()] == []
