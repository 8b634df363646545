"""Ports of the loopback interface: which are free, and whether a server answers there."""

import http.client
import socket
import ssl
from pathlib import Path

LOOPBACK = "127.0.0.1"


def is_port_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's rest is no listener
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def answers_http(port: int, path: str, *, host: str = LOOPBACK, certificate: Path | None = None) -> bool:
    """Whether a server of this machine answers this path with 200 within two seconds.

    Args:
        host: an address of this machine.
        certificate: of the server, where it speaks https: another one than this is no answer.
    """
    connection: http.client.HTTPConnection
    try:
        if certificate is None:
            connection = http.client.HTTPConnection(host, port, timeout=2)
        else:
            connection = http.client.HTTPSConnection(host, port, timeout=2, context=_trusting_only(certificate))
    except OSError:  # the certificate is being replaced
        return False
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _trusting_only(certificate: Path) -> ssl.SSLContext:
    """Trust in this certificate, whoever signed it and whatever name it is for: loopback has no name."""
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
