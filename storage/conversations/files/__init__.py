"""Conversation records over a file store, with the lists made of them."""
