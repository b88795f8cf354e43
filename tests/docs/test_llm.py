"""The recipes for providers name what there is."""

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import SecretStr
from pydantic_ai.models import KnownModelName

from runtime_stub.llm.models import KEYLESS, choose
from runtime_stub.turn import AgentSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "llm.md").read_text(encoding="utf-8")
TABLE = [
    [cell.strip() for cell in line[1:-1].split("|")]
    for line in PAGE.split("## Recipes")[1].split("### ")[0].splitlines()
    if line.startswith("| ")
]
NAMES = [
    name
    for _, models, address, _ in TABLE[2:]
    for name in re.findall(r"`([\w.-]+[:/]?[\w.-]+(?:/NAME)?)`", models)
    if not address and name != "ollama list"
]
KNOWN = set(get_args(getattr(KnownModelName, "__value__", KnownModelName)))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_recipes_leads_to_a_provider(name):
    choice = choose(AgentSettings(llm_model=name, llm_api_key=SecretStr("a key")))

    prefix = re.split(r"[:/]", name)[0] if re.search(r"[:/]", name) else "openai"
    assert choice.provider == prefix


@pytest.mark.parametrize("provider", sorted(KEYLESS))
def test_a_recipe_without_a_key_needs_none(provider):
    (row,) = [row for row in TABLE if f"`{provider}/NAME`" in row[1]]

    assert row[3] == ""
    assert choose(AgentSettings(llm_model=f"{provider}/NAME")).key is None


def test_the_models_of_the_recipes_and_of_the_page_are_known_to_the_library():
    hints = re.findall(
        r'llm_model: "[^"]*: ([^"]+)\."',
        "".join(
            (ROOT / "server" / "web" / "languages" / f"{one}.js").read_text(encoding="utf-8")
            for one in ("de", "en")
        ),
    )
    hinted = {name for hint in hints for name in hint.split(", ") if "/" not in name}
    recipes = {name for name in NAMES if "NAME" not in name}

    assert len(hints) == 2
    assert len(recipes) == 3
    for name in recipes | hinted:
        assert (name if ":" in name else f"openai:{name}") in KNOWN
