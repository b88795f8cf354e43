"""The balancer of deploy/Caddyfile, on a free port, in front of servers of this machine."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.announced import Announced
from tests.support.servers import REPOSITORY, kept_port

CONFIGURATION = REPOSITORY / "deploy" / "Caddyfile"
READY = b"serving initial configuration"


@asynccontextmanager
async def balancer(ports: Sequence[int], folder: Path) -> AsyncIterator[str]:
    """Yield the address of a balancer before servers at these ports; its log is `folder`/caddy.log."""
    program = shutil.which("caddy")
    assert program is not None, "caddy is not installed; scripts/setup-tools does that"
    with kept_port() as port:
        variables = {
            "PARLEY_BIND": "127.0.0.1",
            "PARLEY_PORT": str(port),
            "PARLEY_UPSTREAMS": " ".join(f"127.0.0.1:{one}" for one in ports),
            "XDG_CONFIG_HOME": str(folder / "caddy"),
            "XDG_DATA_HOME": str(folder / "caddy"),
        }
        announced = Announced(
            [program, "run", "--adapter", "caddyfile", "--config", str(CONFIGURATION)],
            READY,
            folder / "caddy.log",
            env=os.environ | variables,
        )
        try:
            await asyncio.to_thread(announced.wait_until_ready)
            yield f"http://127.0.0.1:{port}"
        finally:
            announced.process.kill()
            await asyncio.to_thread(announced.process.wait)
