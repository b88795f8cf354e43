"""The language of ScriptedAgent: how a message is cut into instructions."""

import pytest

from runtime_stub.instructions import (
    BadArguments,
    Instruction,
    next_instruction,
    whole_numbers,
    words_of,
)


def read(text: str) -> list[tuple[str, str]]:
    found = []
    position = 0
    while (step := next_instruction(text, position)) is not None:
        instruction, position = step
        assert isinstance(instruction, Instruction)
        found.append((instruction.name, instruction.argument))
    return found


@pytest.mark.parametrize(
    ("text", "instructions"),
    [
        ("hello", [("say", "hello")]),
        ("", [("say", "")]),
        (" \n\n", [("say", "")]),
        ("one\n\n  two\n", [("say", "one\n\n  two")]),
        ("/run ls -l", [("run", "ls -l")]),
        ("  /run  ls \r\n", [("run", "ls")]),
        ("/run", [("run", "")]),
        ("/help\n/quiet", [("help", ""), ("quiet", "")]),
        (
            "a\n/run b\n\nc\nd\n/think e\n",
            [("say", "a"), ("run", "b"), ("say", "c\nd"), ("think", "e")],
        ),
        ("/runner /run", [("say", "/runner /run")]),
        ("/etc/hosts\nsay /run", [("say", "/etc/hosts\nsay /run")]),
        ("/run a\u2028/run b", [("run", "a\u2028/run b")]),
    ],
)
def test_lines_that_start_with_a_command_are_told_from_plain_text(text, instructions):
    assert read(text) == instructions


def test_the_last_word_takes_the_rest():
    assert words_of("a  b  c d", 2) == ["a", "b  c d"]
    with pytest.raises(BadArguments):
        words_of("a", 2)
    with pytest.raises(BadArguments):
        words_of("", 1)


def test_numbers_are_whole_and_within_their_limits():
    assert whole_numbers("10 0", 10, 10) == [10, 0]
    for bad in ("", "1", "1 2 3", "1 x", "-1 1", "1.5 1", "\u0661 1", "1 99999999999"):
        with pytest.raises(BadArguments):
            whole_numbers(bad, 10, 10)
    with pytest.raises(BadArguments, match="The limit is 10 and 20"):
        whole_numbers("1 21", 10, 20)
