"""Planted bugs turn the tests named beside them red; the rest of them are tried by scripts/mutants."""

import pytest

from tests.support.mutants import BadMutant, Copy, Mutant, all_mutants

QUICK = 12

MUTANTS = all_mutants()


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    made = Copy(tmp_path_factory.mktemp("copy"))
    made.make()
    return made


def test_every_mutant_fits_the_sources(copy):
    for mutant in MUTANTS:
        source = (copy.folder / mutant.file).read_text(encoding="utf-8")
        assert mutant.planted(source) != source
        for test in mutant.tests:
            assert (copy.folder / test.partition("::")[0]).is_file(), test
    assert len({mutant.title for mutant in MUTANTS}) == len(MUTANTS)


def test_a_dozen_are_tried_with_every_run():
    assert len([mutant for mutant in MUTANTS if mutant.quick]) == QUICK


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.quick], ids=lambda one: one.title)
async def test_a_planted_bug_turns_its_test_red(copy, mutant):
    assert not await copy.survived(mutant)


HARMLESS = Mutant(
    area="none",
    name="a comment more",
    file="events/version.py",
    find="def ",
    replace="# A comment.\ndef ",
    tests=("tests/test_mutants.py::test_a_dozen_are_tried_with_every_run",),
)


async def test_a_harmless_change_survives(copy):
    assert await copy.survived(HARMLESS)


def test_a_text_that_occurs_twice_is_no_place_for_a_bug():
    with pytest.raises(BadMutant, match="occurs 2 times"):
        HARMLESS.planted("def one(): ...\ndef two(): ...\n")


async def test_tests_that_cannot_be_run_are_no_success(copy):
    with pytest.raises(BadMutant, match="pytest ended with 4"):
        await copy.passes(["tests/test_none.py"], "none")
