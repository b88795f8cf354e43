"""Which modules of a script a browser will ask for."""

import posixpath
import re
from collections.abc import Callable

_IMPORT = re.compile(r'^(?:import|export)\b[^;"]*"(\.{1,2}/[^"]+)";', re.MULTILINE)


def modules_of(entry: str, source_of: Callable[[str], str]) -> list[str]:
    """The paths of all modules that one needs, without itself, those named first before others.

    `source_of` gives a module's text by its path, and raises where there is none.
    """
    found = [entry]
    for module in found:
        folder = posixpath.dirname(module)
        for target in _IMPORT.findall(source_of(module)):
            path = posixpath.normpath(posixpath.join(folder, target))
            if path not in found:
                found.append(path)
    return found[1:]
