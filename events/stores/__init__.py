"""Event stores: one contract, and one back-end for each kind of medium."""
