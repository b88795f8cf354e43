"""Polling, upgrades and the remaining websockets, served by python-socketio."""
