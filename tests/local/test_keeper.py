"""The program that keeps the processes of a workspace: how it counts, and what it ends with a command."""

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from runtime_stub.base import FileChange
from runtime_stub.errors import WorkspaceError
from runtime_stub.local.keeper import measure_unlinked, read_process
from tests.support.local_worlds import MIB, local_world, passable_folder
from tests.support.waiting import until

HOLDER = f"""
import os
held = os.memfd_create("held")
os.write(held, bytes({MIB}))
# Above the descriptors that come and go.
os.dup2(held, 200)
os.close(held)
print("held", flush=True)
while True:
    for _ in range(100):
        os.dup(0)
    os.closerange(3, 200)
"""


@pytest.fixture
def folder():
    with passable_folder() as found:
        yield found


@pytest.fixture
async def world(folder):
    async with local_world(folder) as found:
        yield found


async def with_slow_filter(world, commands):
    """Make a repository whose one changed file goes through these commands as git looks at it.

    Its size is as it was, without which git knows at once that it has changed; git may look twice.
    """
    await world.run(
        "mkfifo never agent question; git init -q; echo 'a filter=f' > .gitattributes; echo 1 > a;"
        " echo -e 'never\\nagent\\nquestion\\nasked\\nbegun' > .git/info/exclude; git add .;"
        f" git commit -qm first; git config filter.f.clean '{commands}'; echo 2 > a"
    )


@asynccontextmanager
async def waiting_command(world):
    """Give a command of the agent that ends, and says so, as the context does."""
    command = asyncio.create_task(world.run(": > begun; read line < agent; echo $line"))
    await until(world.path("begun").exists)
    try:
        yield command
    finally:
        await let_on(world, "agent", command)


async def let_on(world, fifo, task):
    """Let the process go on that reads a line of this fifo, unless the task is done without it."""

    def written():
        try:
            opened = os.open(world.path(fifo), os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # it does not read yet
            return False
        os.write(opened, b"over\n")
        os.close(opened)
        return True

    await until(lambda: task.done() or written())


async def test_files_that_are_only_held_are_counted_while_other_descriptors_come_and_go():
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        process = read_process(holder.pid)
        assert process is not None
        counted = [measure_unlinked([process]) for _ in range(300)]
        holder.kill()

    assert min(counted) >= MIB


async def test_a_question_of_a_page_that_is_given_up_leaves_the_command_that_the_agent_began(world):
    await with_slow_filter(world, ": > asked; exec sleep 1000")
    question = asyncio.create_task(world.runtime.changes())
    await until(world.path("asked").exists)

    async with waiting_command(world) as command:
        both = world.processes()
        question.cancel()
        await asyncio.wait((question,))
        await until(lambda: len(world.processes()) < len(both))

    answer = await command
    assert (answer.metadata.exit_code, answer.content) == (0, "over")
    await until(lambda: not world.processes())


async def test_a_question_of_a_page_that_is_given_up_leaves_another_one(world):
    await with_slow_filter(world, "if mkdir asked; then exec sleep 1000; fi; cat; : > begun")
    given_up = asyncio.create_task(world.runtime.changes())
    await until(world.path("asked").exists)
    other = asyncio.create_task(world.runtime.changes())
    await until(world.path("begun").exists)
    given_up.cancel()
    await asyncio.wait((given_up,))

    assert await other == [FileChange("M", "a")]


async def test_a_command_that_is_given_up_leaves_the_question_of_a_page(world):
    await with_slow_filter(world, "if mkdir asked; then read line < question; fi; cat")
    command = asyncio.create_task(world.run(": > begun; sleep 1000"))
    await until(world.path("begun").exists)
    question = asyncio.create_task(world.runtime.changes())
    await until(world.path("asked").exists)

    command.cancel()
    await asyncio.wait((command,))
    await world.run("echo 'the next one begins after the end of the one before it'")
    await let_on(world, "question", question)

    assert await question == [FileChange("M", "a")]


async def test_a_question_of_a_page_whose_answer_is_endless_leaves_the_agents_command(folder):
    async with local_world(folder, output_bytes=4000) as world:
        await world.run("mkfifo agent; git init -q; touch $(seq -f %080g 100)")

        async with waiting_command(world) as command:
            with pytest.raises(WorkspaceError, match="137"):
                await world.runtime.changes()

        answer = await command
    assert (answer.metadata.exit_code, answer.content) == (0, "over")


async def test_a_page_is_told_that_git_failed_and_not_that_nothing_changed(world):
    await world.run("git init -q; echo 1 > a; git add a; git commit -qm first; echo 2 > a")
    asked = {
        "echo broken > .git/index": world.runtime.changes,
        "echo '[broken' > .git/config": world.runtime.branch,
        "rm .git/config; rm -rf .git/objects/??": lambda: world.runtime.versions("a"),
    }

    for breaking, question in asked.items():
        await world.run(breaking)
        with pytest.raises(WorkspaceError, match="git failed"):
            await question()


async def test_a_page_is_told_that_there_is_no_git(world):
    world.runtime.set_environment({"PATH": world.runtime.root})

    for question in (world.runtime.changes, world.runtime.branch):
        with pytest.raises(WorkspaceError, match="git cannot be found"):
            await question()
