"""`everreach serve`: the process around the application.

What does not belong here: routes (`app.py`).
"""

import errno
import gc
import ipaddress
import os
import signal
import socket
import ssl
from typing import Any

import click
import dagster as dg
import uvicorn
from starlette.applications import Starlette

from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from everreach_assets.memory import open_database
from everreach_assets.service.app import create_app
from everreach_assets.service.connections import ImpatientConnection
from everreach_assets.service.dagster_state import DagsterState, Declared, declared_by
from everreach_assets.service.metrics import Part
from everreach_assets.service.relay import AlertSender
from everreach_assets.service.request_log import log_as_json
from resources.addresses import child_environment, prepare_dagster_home
from resources.alert_token import keep_alert_token
from resources.api_tokens import refuse_shared_file, tokens_in_file
from resources.servers import running_servers
from resources.settings import Settings

QUEUE = 128
GRACE_SECONDS = 5


def serve(settings: Settings) -> None:
    """Answer until SIGTERM or Ctrl-C.

    Raises:
        Refused: the address can be reached from other machines, and no token is set, or nobody speaks TLS; or others
            may read a file of secrets.
        InvalidInput: the address is none of this machine, or the certificate is none.
        Unavailable: the port is taken, or the database does not answer.
    """
    host = settings.everreach_service_host
    refuse_open_address(settings)
    tls = tls_options(settings)
    with listening(host, settings.everreach_metrics_port) as listener, running_servers(settings) as addresses:
        # Dagster's configuration reads the environment.
        os.environ.update(child_environment(settings, addresses))
        dagster_home = str(prepare_dagster_home(settings))
        found = addresses.applied_to(settings)
        keep_alert_token(found)
        log_as_json()
        with open_database(found) as database, AlertSender(found, database):
            dagster = DagsterState(lambda: dg.DagsterInstance.from_config(dagster_home), load_declared, database)
            app = create_app(found, database, parts=[Part("dagster", dagster.samples)])
            for number in (signal.SIGINT, signal.SIGTERM):
                # uvicorn ends in order, and then raises the signal again: that must not skip our own end.
                signal.signal(number, lambda *_: None)
            scheme = "https" if tls else "http"
            click.echo(f"Serving {scheme}://{host}:{settings.everreach_metrics_port}/metrics")
            with dagster.polling():
                uvicorn.Server(server_config(app, **tls)).run(sockets=[listener])


def server_config(app: Starlette, **tls: Any) -> uvicorn.Config:
    """How uvicorn serves the application: with our connections, and without lines of its own for each request."""
    return uvicorn.Config(
        app,
        http=ImpatientConnection,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the caller is
        timeout_graceful_shutdown=GRACE_SECONDS,
        **tls,
    )


def refuse_open_address(settings: Settings) -> None:
    """Refuse an address that other machines can reach without tokens, or without TLS on the way.

    Raises:
        Refused: it names the settings that are missing.
        Unavailable: the file of tokens cannot be read.
    """
    tokens = [*settings.api_tokens, *(tokens_in_file(path) if (path := settings.api_tokens_file) else [])]
    if is_loopback(settings.everreach_service_host):
        return
    reached = f"EVERREACH_SERVICE_HOST={settings.everreach_service_host} can be reached from other machines"
    if not tokens:
        raise Refused(
            f"{reached}: set EVERREACH_API_TOKENS or EVERREACH_API_TOKENS_FILE, or leave the address at 127.0.0.1"
        )
    if settings.tls_files is None and not settings.everreach_behind_tls_proxy:
        raise Refused(
            f"{reached}, and tokens would travel in clear: set EVERREACH_TLS_CERTIFICATE and EVERREACH_TLS_KEY, or "
            "EVERREACH_BEHIND_TLS_PROXY=true where a proxy in front of it speaks TLS"
        )


def tls_options(settings: Settings) -> dict[str, Any]:
    """What uvicorn is told of the certificate; nothing where there is none.

    Raises:
        Refused: others may read the key.
        InvalidInput: the files are no certificate with its key.
    """
    if settings.tls_files is None:
        return {}
    certificate, key = settings.tls_files
    try:
        refuse_shared_file("EVERREACH_TLS_KEY", key, key.stat())
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:  # an ssl.SSLError is one
        raise InvalidInput(
            f"EVERREACH_TLS_CERTIFICATE and EVERREACH_TLS_KEY: {certificate} and {key} are no certificate and its key "
            f"in PEM, without a password ({error.strerror or type(error).__name__})"
        ) from None
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


def _no_password() -> str:
    return ""  # else OpenSSL would ask for one at the terminal


def load_declared() -> Declared:
    """What the code declares. All that this loads stays in the process, out of the sight of its garbage collector."""
    from everreach_assets.build import build_definitions  # noqa: PLC0415 - takes seconds, in which /metrics answers

    declared = declared_by(build_definitions())
    # Each time that the collector looked through it, a scrape would wait for a quarter of a second.
    gc.collect()
    gc.freeze()
    return declared


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening(host: str, port: int) -> socket.socket:
    """A socket that accepts connections there.

    Raises:
        Unavailable: the port is taken.
        InvalidInput: the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=QUEUE)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise InvalidInput(f"EVERREACH_SERVICE_HOST={host}: no address of this machine ({error})") from error
        raise Unavailable(
            f"port {port} of {host} is taken by another program, or not allowed ({error.strerror}): end it, or set "
            "EVERREACH_METRICS_PORT to a free port"
        ) from error
