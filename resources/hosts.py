"""Whose a host is: what holds every row must stand on this machine, in a private network, or be named as trusted.

What belongs here: reading hosts from settings and refusing foreign ones, and clear-text connections to a cloud. What
does not: connecting.
"""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

import psycopg
from psycopg import pq

from everreach_assets.domain.errors import InvalidInput, Refused
from resources.settings import Settings, bracketed, plain_host

LOOPBACK_NETWORKS = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
PRIVATE_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"),
    )
)
"""RFC 1918, RFC 4193 and link-local. Python's `is_private` also takes in networks that are merely not global."""

SAFE_SSLMODES = {"require", "verify-ca", "verify-full"}


def refuse_foreign_hosts(settings: Settings) -> None:
    """Refuse a database, index or cache on a host that is not the operator's: each holds what must never leave.

    Raises:
        Refused: a host is neither a socket, loopback nor private, and EVERREACH_TRUSTED_HOSTS does not name it.
    """
    hosts: list[tuple[str, str]] = []
    if settings.everreach_database_url is not None:
        hosts += [("EVERREACH_DATABASE_URL", host) for host in postgres_hosts(settings.database_url())]
    if settings.vector_backend == "chroma" and settings.chroma_host:
        hosts.append(("CHROMA_HOST", chroma_host(settings.chroma_host)))
    if settings.embedding_cache_url is not None:
        cache = urlsplit(settings.embedding_cache_url.get_secret_value())
        hosts.append(("EMBEDDING_CACHE_URL", "/" if cache.scheme == "unix" else cache.hostname or "localhost"))
    for setting, host in hosts:
        if plain_host(host) not in settings.trusted_hosts and not _is_within(
            host, LOOPBACK_NETWORKS + PRIVATE_NETWORKS
        ):
            raise Refused(
                f"{setting} names {host}, which is neither this machine nor in a private network, and prospects must "
                "not leave: name a server of your own, or, if that host is yours, add it to EVERREACH_TRUSTED_HOSTS"
            )


def refuse_clear_text(url: str) -> None:
    """Refuse a connection to a database in the cloud that anybody on the way could read.

    Raises:
        Refused: the host is not this machine and `sslmode` allows a connection without TLS.
    """
    options = _postgres_options(url)
    foreign = [host for host in postgres_hosts(url) if not is_this_machine(host)]
    if foreign and options.get("sslmode") not in SAFE_SSLMODES:
        raise Refused(
            f"CLOUD_DATABASE_URL reaches {foreign[0]} with sslmode={options.get('sslmode') or 'prefer'}: add "
            "?sslmode=require (better: verify-full) to the address"
        )


def is_this_machine(host: str) -> bool:
    """Whether the host is a socket or on the loopback interface."""
    return _is_within(host, LOOPBACK_NETWORKS)


def postgres_hosts(url: str) -> list[str]:
    """Every host that a connection to the address may go to, as libpq reads it; a folder is a socket.

    Raises:
        InvalidInput: it is no address, or names a service file, in which the host could change unseen.
    """
    options = _postgres_options(url)
    if options.get("service"):
        raise InvalidInput("a database address with service= hides its host: write host and port into the address")
    given = [*options.get("host", "").split(","), *options.get("hostaddr", "").split(",")]
    return [host for host in given if host] or ["/"]


def postgres_place(url: str) -> str:
    """Hosts, ports and database of the address, without user and password: what tells one database from another."""
    options = _postgres_options(url)
    return f"{','.join(postgres_hosts(url))}:{options.get('port', '5432')}/{options.get('dbname', '')}"


def chroma_host(host: str) -> str:
    """The host alone; Chroma's client also takes a whole address for one."""
    return _chroma_parts(host).hostname or host


def chroma_place(host: str, port: int) -> str:
    """Host and port, without what else a whole address says; a port in it comes first, as for Chroma's client."""
    return f"{bracketed(chroma_host(host))}:{_chroma_parts(host).port or port}"


def _chroma_parts(host: str) -> SplitResult:
    return urlsplit(host if "//" in host else f"//{host}")


def _postgres_options(url: str) -> dict[str, str]:
    """The options of a connection, those of the environment included (PGHOST, PGSSLMODE)."""
    try:
        given = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise InvalidInput("a database address could not be read: write postgresql://user:password@host/name") from None
    defaults = {
        option.keyword.decode(): option.val.decode() for option in pq.Conninfo.get_defaults() if option.val is not None
    }
    return defaults | {name: str(value) for name, value in given.items() if value is not None}


def _is_within(host: str, networks: Collection[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether every address of the host is in one of the networks; a socket is, a name without an address is not."""
    if host.startswith(("/", "@")):
        return True
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host.strip("[]"), None)}
    except (OSError, UnicodeError):
        return False
    addresses = [ipaddress.ip_address(str(each).partition("%")[0]) for each in found]
    mapped = [getattr(each, "ipv4_mapped", None) or each for each in addresses]
    return bool(mapped) and all(any(each in network for network in networks) for each in mapped)
