"""Uvicorn's protocols as both socket paths need them."""
