"""The service's application under the real server, in a thread, and a caller of it.

What does not belong here: what is asked of it (`tests/integration/test_api*.py`).
"""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr

from everreach_assets.service.app import create_app
from everreach_assets.service.server import listening, server_config
from resources.database import Database
from resources.settings import Settings
from tests.conftest import program

TOKEN = "token-of-the-tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def settings_of(database_url: str) -> Settings:
    """Of a service on that database, which takes the token of the tests and needs no index beside it."""
    return Settings(
        _env_file=None,
        everreach_database_url=SecretStr(database_url),
        everreach_api_tokens=SecretStr(TOKEN),
        vector_backend="pgvector",
    )


class Api:
    """A caller with a token."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.address = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.address, headers=BEARER, timeout=30, trust_env=False)

    def search(self, **body: Any) -> httpx.Response:
        return self.client.post("/api/v1/search", json=body)

    def record(self, body: Any) -> httpx.Response:
        return self.client.post("/api/v1/outcomes", json=body)

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A connection of its own, with the bytes sent."""
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        opened.sendall(sent)
        return opened


@contextmanager
def served(settings: Settings) -> Iterator[Api]:
    """The application, with a pool of its own, for as long as the block lasts."""
    with Database(settings.database_url()) as database, listening("127.0.0.1", 0) as listener:
        server = uvicorn.Server(server_config(create_app(settings, database)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        api = Api(listener.getsockname()[1])
        try:
            yield api
        finally:
            api.client.close()
            server.should_exit = True
            thread.join()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, signed by its own key."""
    paths = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-out", paths[0], "-keyout", paths[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    paths[1].chmod(0o600)
    return paths
