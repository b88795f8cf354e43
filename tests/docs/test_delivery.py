"""Every test that a document names as its witness exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
DELIVERY = ROOT / "docs" / "delivery.md"
WITNESS = re.compile(r"`((?:tests|events|storage|runtime_stub)/[\w/]+\.py)::(\w+)`")
NAMED = [
    (document, *found)
    for document in DOCUMENTS
    for found in WITNESS.findall(document.read_text(encoding="utf-8"))
]


@cache
def functions_of(path):
    """The names of all test functions of a file, those in classes as well."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


@pytest.mark.parametrize(("document", "path", "name"), NAMED, ids=lambda one: Path(str(one)).name)
def test_a_test_that_a_document_names_exists(document, path, name):
    assert name.startswith("test_")
    assert name in functions_of(path), document


def test_every_guarantee_of_delivery_has_a_test():
    text = DELIVERY.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    guarantees = [row for row in rows if not row.startswith(("| guarantee", "| ---"))]

    assert len(guarantees) > 30
    assert [row for row in guarantees if not WITNESS.search(row)] == []
