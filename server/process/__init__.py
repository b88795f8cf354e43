"""The process: its runner, its event loop, and the watchdog that ends a stop in time."""
