"""`everreach serve`: the process around the application.

What does not belong here: routes (`app.py`).
"""

import errno
import ipaddress
import os
import signal
import socket

import click
import dagster as dg
import uvicorn

from everreach_assets.domain.errors import InvalidInput, Refused, Unavailable
from everreach_assets.memory import open_database
from everreach_assets.service.app import create_app
from everreach_assets.service.dagster_state import DagsterState, Declared, declared_by
from everreach_assets.service.metrics import Part
from everreach_assets.service.relay import AlertSender
from resources.alert_token import keep_alert_token
from resources.servers import child_environment, prepare_dagster_home, running_servers
from resources.settings import Settings

QUEUE = 128
GRACE_SECONDS = 5


def serve(settings: Settings) -> None:
    """Answer until SIGTERM or Ctrl-C.

    Raises:
        Refused: the address can be reached from other machines, and no token is set.
        InvalidInput: the address is none of this machine.
        Unavailable: the port is taken, or the database does not answer.
    """
    host = settings.everreach_service_host
    if not is_loopback(host) and not settings.api_tokens:
        raise Refused(
            f"EVERREACH_SERVICE_HOST={host} can be reached from other machines: set EVERREACH_API_TOKENS, or leave the "
            "address at 127.0.0.1"
        )
    with listening(host, settings.everreach_metrics_port) as listener, running_servers(settings) as addresses:
        # Dagster's configuration reads the environment.
        os.environ.update(child_environment(settings, addresses))
        dagster_home = str(prepare_dagster_home(settings))
        found = addresses.applied_to(settings)
        keep_alert_token(found)
        with open_database(found) as database, AlertSender(found, database):
            dagster = DagsterState(lambda: dg.DagsterInstance.from_config(dagster_home), _declared, database)
            app = create_app(found, database, parts=[Part("dagster", dagster.samples)])
            for number in (signal.SIGINT, signal.SIGTERM):
                # uvicorn ends in order, and then raises the signal again: that must not skip our own end.
                signal.signal(number, lambda *_: None)
            click.echo(f"Serving http://{host}:{settings.everreach_metrics_port}/metrics")
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=GRACE_SECONDS
            )
            with dagster.polling():
                uvicorn.Server(config).run(sockets=[listener])


def _declared() -> Declared:
    from everreach_assets.build import build_definitions  # noqa: PLC0415 - takes seconds, in which /metrics answers

    return declared_by(build_definitions())


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
