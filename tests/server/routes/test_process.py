"""Figures of the process."""

import os
from contextlib import suppress

import pytest
from anyio.to_thread import current_default_thread_limiter

from server.routes.process import ProcessFigures
from tests.support.waiting import until


async def test_a_system_that_tells_little_gives_zeros(tmp_path):
    figures = await ProcessFigures(tmp_path / "missing", proc=tmp_path).read()

    assert figures.memory.rss > 1_000_000
    assert (figures.memory.vms, figures.memory.percent) == (0, 0.0)
    assert set(figures.io.model_dump().values()) == {0}
    assert figures.disk.total > 0


async def test_cpu_use_is_that_since_the_last_reading(tmp_path):
    figures = ProcessFigures(tmp_path)
    await figures.read()

    sum(range(2_000_000))

    assert (await figures.read()).cpu_percent > 0


async def test_a_system_that_does_not_answer_takes_one_thread_however_often_it_is_asked(tmp_path):
    silent = tmp_path / "meminfo"
    os.mkfifo(silent)
    figures = ProcessFigures(tmp_path, proc=tmp_path, look_seconds=0.01)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await figures.read()
    assert current_default_thread_limiter().borrowed_tokens == 1

    silent.write_text("MemTotal: 1000000 kB\n")
    await until(lambda: current_default_thread_limiter().borrowed_tokens == 0)

    read = []

    async def answered():
        with suppress(TimeoutError):
            read.append(await figures.read())
        return read

    await until(answered)
    memory = read[0].memory
    assert memory.percent == round(100 * memory.rss / 1_024_000_000, 1)
