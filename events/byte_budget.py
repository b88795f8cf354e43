"""A bound in bytes that many holders share."""


class ByteBudget:
    """Bytes that all holders together may have; what does not fit is refused, never waited for."""

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def take(self, size_bytes: int) -> bool:
        """Reserve bytes; return False, reserving none, where they do not fit."""
        if self.used_bytes + size_bytes > self.limit_bytes:
            return False
        self.used_bytes += size_bytes
        return True

    def take_anyway(self, size_bytes: int) -> None:
        """Reserve bytes that cannot be refused."""
        self.used_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Return bytes that were reserved."""
        self.used_bytes -= size_bytes
