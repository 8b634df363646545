"""docker-compose.yml as a test sees it: merged, with a value behind every name."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
NAME = re.compile(r"\$\{([A-Z_]+)(:\?[^}]*)?\}")


def read() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def services() -> dict[str, dict[str, Any]]:
    return dict(read()["services"])


def ours() -> dict[str, dict[str, Any]]:
    """The services that run our own image."""
    return {name: service for name, service in services().items() if "build" in service}


def interpolated(value: str, values: dict[str, str]) -> str:
    return NAME.sub(lambda found: values[found[1]], value)


@dataclass(frozen=True)
class Port:
    address: str
    published: int
    inside: int


def ports(service: dict[str, Any]) -> list[Port]:
    """Its published ports; one without an address is published to everybody."""
    found = []
    for given in service.get("ports", ()):
        *address, published, inside = given.split(":")
        found.append(Port(":".join(address) or "0.0.0.0", int(published), int(inside)))  # noqa: S104 - what it means
    return found


def option(command: list[str], name: str) -> str:
    """The value of an option in a command, as `--name value` or `--name=value`."""
    for position, argument in enumerate(command):
        if argument == name:
            return command[position + 1]
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    raise KeyError(name)
