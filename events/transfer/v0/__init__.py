"""Directories of the V0 server: how they lie, what of them can be read, and their way into a storage.

Nothing is ever written to them, and pickles in them are never read.
"""
