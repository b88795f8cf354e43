"""Headers that choose the form of an answer: Accept-Encoding and If-None-Match."""

import re

_CODING = re.compile(
    r"[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*"
    r"(?:;[ \t]*q=(?P<weight>0(?:\.\d{0,3})?|1(?:\.0{0,3})?)[ \t]*)?",
    re.ASCII | re.IGNORECASE,
)
_TAG = re.compile(r'(?:W/)?("[^"]*")')


def takes_gzip(accept_encoding: str) -> bool:
    """Return whether a header of that text takes an answer packed with gzip."""
    weights: dict[str, float] = {}
    for part in accept_encoding.split(","):
        found = _CODING.fullmatch(part)
        if found is not None:
            weights[found["name"].lower()] = float(found["weight"] or 1)
    return max(weights.get("gzip", -1), weights.get("x-gzip", -1), -1) > 0 or (
        not weights.keys() & {"gzip", "x-gzip"} and weights.get("*", 0) > 0
    )


def is_known(etag: str, if_none_match: str) -> bool:
    """Return whether a header of that text says that the client has the answer of that tag.

    Tags are compared weakly; `*` is any answer.
    """
    if if_none_match.strip() == "*":
        return True
    return etag.removeprefix("W/") in _TAG.findall(if_none_match)
