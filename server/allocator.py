"""Has glibc's allocator give large blocks back to the system as soon as they are free."""

import contextlib
import ctypes

M_MMAP_THRESHOLD = -3
"""A parameter of mallopt(3)."""
LARGE_BYTES = 1024 * 1024
"""Blocks from this size on are mappings of their own."""


def return_large_blocks() -> None:
    """Fix from which size on a block is a mapping of its own, for the life of the process.

    By itself glibc raises that size up to 32 MiB, with every large block that is freed; messages of
    some MiB then leave holes in its heaps, and the process keeps two to three times what it uses.
    Other allocators have no such call, and nothing is done.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
