"""File stores: the contract, memory and local files."""
