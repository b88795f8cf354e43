"""Promise: told in the step in which the outcome is known, once, whatever callbacks do."""

import asyncio

import pytest

from storage.promise import Abandoned, Promise


async def test_callbacks_are_told_inside_the_step_that_knows():
    promise: Promise[int] = Promise()
    told: list[object] = []
    promise.then(lambda done: told.append(done.result()))

    promise.resolve(1)

    assert told == [1]


async def test_who_comes_late_is_told_at_once():
    told: list[object] = []

    Promise.resolved(2).then(lambda done: told.append(done.result()))
    Promise.rejected(ValueError("no")).then(lambda done: told.append(str(done.error)))

    assert told == [2, "no"]


async def test_the_first_outcome_counts():
    promise: Promise[int] = Promise()
    told: list[object] = []
    promise.then(lambda done: told.append(done.result()))

    promise.settle(1)
    promise.settle(ValueError("late"))
    promise.resolve(2)

    assert told == [1]
    assert await promise == 1


def fail(promise):
    raise ZeroDivisionError


async def test_a_callback_that_raises_is_logged_and_harms_nobody(caplog):
    promise: Promise[int] = Promise()
    told: list[object] = []
    promise.then(fail)
    promise.then(lambda done: told.append(done.result()))

    promise.resolve(1)

    assert told == [1]
    assert "ZeroDivisionError" in caplog.text


async def test_many_may_await_it_and_one_who_gives_up_changes_nothing():
    promise: Promise[int] = Promise()
    waits = [asyncio.ensure_future(promise.future()) for _ in range(3)]
    waits[1].cancel()
    promise.reject(ValueError("no"))

    outcomes = await asyncio.gather(*waits, return_exceptions=True)

    assert [type(one) for one in outcomes] == [ValueError, asyncio.CancelledError, ValueError]
    with pytest.raises(ValueError, match="no"):
        await promise


async def test_anything_awaitable_becomes_one():
    async def give():
        return 7

    async def lose():
        raise KeyError("gone")

    promise = Promise.resolved(1)

    assert Promise.of(promise) is promise
    assert await Promise.of(give()) == 7
    with pytest.raises(KeyError):
        await Promise.of(lose())


async def test_what_is_cancelled_under_it_is_told_as_an_error():
    source = asyncio.get_running_loop().create_future()
    promise = Promise.of(source)

    source.cancel()

    with pytest.raises(Abandoned):
        await promise
