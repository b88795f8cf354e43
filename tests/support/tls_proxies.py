"""The proxies of the operating guide, run as it writes them: on free ports, for one server."""

import asyncio
import os
import re
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.guide import shown
from tests.support.servers import kept_port
from tests.support.waiting import WAIT_SECONDS

PUBLIC_NAME = "chat.example.org"
"""The server's name in the guide."""
UPSTREAM = "127.0.0.1:3000"
SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"


class TlsProxy:
    """A proxy process in front of the server at a port; killable, restartable at its own port."""

    def __init__(self, name: str, port: int, upstream: int, folder: Path, below: str = "") -> None:
        self.port = port
        self.upstream = f"http://127.0.0.1:{upstream}"
        path = shutil.which(name, path=SEARCHED)
        assert path is not None, f"{name} is not installed; scripts/setup-tools does that"
        self._ready, write = KINDS[name]
        self._command = [path, *write(self.port, f"127.0.0.1:{upstream}", folder, below)]
        self._below = below
        # What it keeps of its own stays with the test.
        kept = str(folder / "proxy")
        self._environment = os.environ | {"XDG_CONFIG_HOME": kept, "XDG_DATA_HOME": kept}
        self._process: Process | None = None
        self._reading: asyncio.Task[bytes] | None = None

    @property
    def url(self) -> str:
        """The address at which people reach the server."""
        return f"https://{PUBLIC_NAME}:{self.port}{self._below}"

    async def start(self) -> None:
        """Start, and wait until it takes connections."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, env=self._environment, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
        )
        said = b""
        assert self._process.stderr is not None
        async with asyncio.timeout(WAIT_SECONDS):
            while self._ready not in said:
                line = await self._process.stderr.readline()
                assert line, f"the proxy ended: {said.decode()}"
                said += line
        self._reading = asyncio.create_task(self._process.stderr.read())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it do nothing within the block, as on a machine that has no time for it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """End it and with it all that goes through it."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        async with asyncio.timeout(WAIT_SECONDS):
            await self._process.wait()
            if self._reading is not None:
                await self._reading


@asynccontextmanager
async def tls_proxy(
    name: str, upstream: int, folder: Path, below: str = ""
) -> AsyncIterator[TlsProxy]:
    """The guide's proxy of that name, until the block is left; `below` is "" or the guide's path."""
    with kept_port() as port:
        proxy = TlsProxy(name, port, upstream, folder, below)
        try:
            await proxy.start()
            yield proxy
        finally:
            await proxy.stop()


def _nginx(port: int, upstream: str, folder: Path, below: str) -> list[str]:
    certificate, key = _certified(folder)
    whole = shown("nginx", "proxy_pass")
    if below:
        locations = shown("nginx", f"location {below}/ ")
        whole = re.sub(r"    location .*^    }\n", locations, whole, flags=re.MULTILINE | re.DOTALL)
    block = _changed(
        whole,
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            f"/etc/ssl/{PUBLIC_NAME}.pem": str(certificate),
            f"/etc/ssl/private/{PUBLIC_NAME}.key": str(key),
            UPSTREAM: upstream,
        },
    )
    kept = "".join(
        f"{one}_temp_path {folder / one};\n"
        for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    text = (
        f"{user}daemon off;\npid {folder / 'nginx.pid'};\nerror_log stderr notice;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{kept}{block}}}\n"
    )
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    return ["-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _caddy(port: int, upstream: str, folder: Path, below: str) -> list[str]:
    certificate, key = _certified(folder)
    site = f"{PUBLIC_NAME} {{\n"
    # Nobody can look the name up. One of its own making comes only after it says it is ready.
    whole = shown("text", "reverse_proxy")
    if below:
        whole = f"{site}{shown('text', f'handle_path {below}/')}}}\n"
    block = _changed(
        whole,
        {UPSTREAM: upstream, site: f"{site}tls {certificate} {key}\n"},
    )
    rest = (
        "{\nadmin off\nauto_https disable_redirects\ndefault_bind 127.0.0.1\n"
        f"https_port {port}\n}}\n"
    )
    (folder / "Caddyfile").write_text(rest + block, encoding="utf-8")
    return ["run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _changed(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def _certified(folder: Path) -> tuple[Path, Path]:
    """A certificate for the public name that vouches for itself, and its key."""
    certificate, key = folder / "proxy.pem", folder / "proxy.key"
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, PUBLIC_NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(PUBLIC_NAME)]), critical=False)
        .sign(private, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(encoding, form, plain))
    certificate.write_bytes(made.public_bytes(encoding))
    return certificate, key


Write = Callable[[int, str, Path, str], list[str]]
KINDS: dict[str, tuple[bytes, Write]] = {
    "nginx": (b"start worker process", _nginx),
    "caddy": (b"serving initial configuration", _caddy),
}
"""The line each prints when it is ready, and the function that writes its configuration."""
