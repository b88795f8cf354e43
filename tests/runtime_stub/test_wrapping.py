"""WrappedRuntime forwards whatever a runtime has."""

from runtime_stub.base import Runtime
from runtime_stub.wrapping import OF_THE_CLASS, WrappedRuntime


def public(kind):
    return {name for name in vars(kind) if not name.startswith("_")}


def test_a_wrapped_runtime_forwards_all_that_a_runtime_has():
    assert public(WrappedRuntime) | set(OF_THE_CLASS) == public(Runtime)
