"""Figures of the process."""

from server.routes.process import ProcessFigures


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
