"""Whole storages: read, mended, compared and copied, over the contracts of their stores.

Nothing here knows which media it works on, or needs a server. Everything is read as a stream, in
bounded memory. Data goes one way: from a source to a storage, never back.
"""
