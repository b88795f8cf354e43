"""A real S3 server for this process: started when it is first asked for, killable, ended with it."""

import atexit
import json
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp

import obstore
from pydantic import SecretStr

from storage.config import CloudStorage
from storage.files.objects import Objects, open_bucket
from tests.support.announced import START_SECONDS, Announced
from tests.support.servers import environment_of, kept_port

WEED = Path(sys.executable).with_name("weed")
"""SeaweedFS, which `requirements/dev.txt` pins."""
BUCKET = "parley"
OPEN_BUCKET = "open"
"""A bucket that takes requests without a signature, which a proxy may change."""
ACCESS_KEY, SECRET_KEY = "an-access-key", "a-secret-key-of-the-tests"
SEALING_KEY = "the key that seals in the tests"
ELECTION = "300ms"
"""The one master elects itself after so long, or twice that. Its filer asks for the elected one a second
after the start, and again a second later: if it came too late, nothing could be put for 4 instead of 2.4 seconds."""
PORTS = ("master", "volume", "filer", "s3")


class S3Server:
    """One process over a folder of its own, on ports that nobody else is given."""

    def __init__(self) -> None:
        assert WEED.exists(), "SeaweedFS is not installed; scripts/setup-venv dev does that"
        self.folder = Path(mkdtemp(prefix="parley-s3-"))
        self._ports = ExitStack()
        names = [name for part in PORTS for name in (f"{part}.port", f"{part}.port.grpc")]
        self._arguments = {name: self._ports.enter_context(kept_port()) for name in names}
        self._announced: Announced | None = None
        self._process: subprocess.Popen[bytes] | None = None
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        self._config = self.folder / "s3.json"
        anybody = {
            "name": "anonymous",
            "actions": [f"{action}:{OPEN_BUCKET}" for action in ("Read", "Write", "List")],
        }
        self._config.write_text(json.dumps({"identities": [identity, anybody]}))

    @property
    def port(self) -> int:
        """The port of its S3 interface."""
        return self._arguments["s3.port"]

    def start(self) -> None:
        """Start, and wait until it takes requests."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start."""
        (self.folder / "data").mkdir(exist_ok=True)
        command = [
            *(str(WEED), "server", f"-dir={self.folder / 'data'}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={self._config}"),
            *("-master.telemetry=false", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-master.electionTimeout={ELECTION}", "-master.heartbeatInterval=100ms"),
            *("-master.volumeSizeLimitMB=256", "-volume.max=64", "-volume.preStopSeconds=0"),
            *(f"-{name}={port}" for name, port in self._arguments.items()),
            *(f"-{part}.localSocket={self.folder / part}.sock" for part in ("filer", "s3")),
        ]
        self._announced = Announced(
            command, b"Start Seaweed S3 API Server", self.folder / "log", cwd=self.folder
        )
        self._process = self._announced.process

    def wait(self) -> None:
        """Wait until it takes requests."""
        assert self._announced is not None
        self._announced.wait_until_ready()

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(START_SECONDS)

    def remove(self) -> None:
        """End it, and remove what it has stored."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._ports.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def s3_server() -> S3Server:
    """This process's server; tests that kill it start it again."""
    server = S3Server()
    atexit.register(server.remove)
    server.start()
    # It makes a bucket for the first object that an administrator puts there.
    for bucket in (BUCKET, OPEN_BUCKET):
        obstore.put(open_bucket(f"s3://{bucket}", options_of(server), ""), "first", b"")
    return server


def options_of(server: S3Server, port: int | None = None) -> dict[str, str]:
    """Return the options of the bucket, at that port instead of the server's own if one is given."""
    return {
        "endpoint": f"http://127.0.0.1:{port or server.port}",
        "region": "us-east-1",
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
    }


def url_of(folder: Path) -> str:
    """Return the URL of the bucket's folder that belongs to a folder here."""
    return f"s3://{BUCKET}/{sha256(str(folder).encode()).hexdigest()[:24]}"


def storage_of(
    folder: Path, port: int | None = None, *, lease_seconds: float = 2.0
) -> CloudStorage:
    """Return the configuration of the storage that belongs to a folder here."""
    return CloudStorage(
        url=url_of(folder),
        options=SecretStr(json.dumps(options_of(s3_server(), port))),
        secret_key=SecretStr(SEALING_KEY),
        lease_seconds=lease_seconds,
    )


def cloud_environment(
    folder: Path, port: int | None = None, *, lease_seconds: float = 2.0
) -> dict[str, str]:
    """Return the environment in which a server works on the bucket's folder of a folder."""
    settings = cloud_settings(folder, port, lease_seconds=lease_seconds)
    return environment_of(storage="cloud", **settings)


def cloud_settings(
    folder: Path, port: int | None = None, *, lease_seconds: float = 2.0
) -> dict[str, object]:
    """Return the settings of a server on the bucket's folder of a folder, besides its storage's kind."""
    return {
        "cloud_url": url_of(folder),
        "cloud_options": json.dumps(options_of(s3_server(), port)),
        "cloud_lease_seconds": lease_seconds,
        "secret_key": SEALING_KEY,
    }


async def stored_bytes(folder: Path) -> bytes:
    """Return everything in the bucket's folder of a folder, as it lies there."""
    objects = objects_of(folder)
    return b"".join([(await objects.get(key)).body for key in await objects.keys("")])


def objects_of(
    folder: Path, part: str = "files", *, port: int | None = None, attempt_seconds: float = 3.0
) -> Objects:
    """Return the objects of a part of a folder."""
    options = options_of(s3_server(), port)
    bucket = open_bucket(url_of(folder), options, part)
    return Objects(bucket, attempt_seconds=attempt_seconds)
