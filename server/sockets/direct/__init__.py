"""Websockets served by this project, from the upgrade request to the frame."""
