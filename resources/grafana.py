"""Grafana's HTTP API, as far as it is needed: importing a dashboard.

What belongs here: the requests and what each refusal means. What does not: the dashboards
(`everreach_assets/dashboards/`).

The import API of Grafana 7 to 13 wants `{dashboard, overwrite, inputs, folderUid}`; the files in grafana/ are raw
dashboards, as file provisioning and the upload in the UI want them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from everreach_assets.domain.errors import InvalidInput, Unavailable
from resources.settings import Settings

TIMEOUT_SECONDS = 30.0
LONGEST_MESSAGE = 300


def read_dashboard(path: Path) -> dict[str, Any]:
    """A dashboard from its file.

    Raises:
        InvalidInput: the file holds no dashboard as Grafana exports or provisions it.
    """
    try:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path} is no JSON ({error}): name a file of grafana/") from None
    if not isinstance(dashboard, dict) or not dashboard.get("title") or not dashboard.get("uid"):
        raise InvalidInput(f"{path} is no dashboard: it needs a title and a uid at its top. Name a file of grafana/")
    if dashboard.get("__inputs"):
        raise InvalidInput(
            f"{path} was exported for sharing: its __inputs must be chosen by a person. Import it in the UI, or export "
            "it again without 'Export for sharing externally'"
        )
    return dashboard


def import_body(dashboard: Mapping[str, Any], folder_uid: str | None) -> dict[str, Any]:
    """The body of `POST /api/dashboards/import`: the dashboard replaces the one with its uid."""
    return {"dashboard": dict(dashboard), "overwrite": True, "inputs": [], "folderUid": folder_uid or ""}


class Grafana:
    """A Grafana server, with a service account's token."""

    def __init__(self, url: str, token: str) -> None:
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}/",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,  # the token goes to the server that was named, and to no other
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> "Grafana":
        """The server that the settings name.

        Raises:
            InvalidInput: they name none.
        """
        if settings.grafana_url is None or settings.grafana_token is None:
            raise InvalidInput(
                "GRAFANA_URL and GRAFANA_TOKEN are needed: the address of Grafana, and the token of a service account "
                "that may create dashboards (Administration, Service accounts)"
            )
        return cls(settings.grafana_url, settings.grafana_token.get_secret_value())

    def __enter__(self) -> "Grafana":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def import_dashboard(self, dashboard: Mapping[str, Any], *, folder_uid: str | None = None) -> str:
        """Bring the dashboard in, in place of an older one with its uid; answers its address.

        Raises:
            InvalidInput: Grafana refuses the token, the dashboard or the folder; nothing was changed.
            Unavailable: it does not answer, or fails; safe to try again.
        """
        try:
            answer = self._client.post("api/dashboards/import", json=import_body(dashboard, folder_uid))
        except httpx.InvalidURL as error:
            raise InvalidInput(f"GRAFANA_URL is no address ({error}): set it to one such as http://host:3000") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"Grafana does not answer ({error}): check GRAFANA_URL and try again") from error
        if answer.status_code == httpx.codes.OK:
            return str(self._client.base_url.join(f"d/{dashboard['uid']}"))
        raise self._error(answer, str(dashboard["uid"]))

    def _error(self, answer: httpx.Response, uid: str) -> InvalidInput | Unavailable:
        reason = f"Grafana answers {answer.status_code} to {uid}: {_message(answer)}"
        if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            return Unavailable(f"{reason}. Try again")
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            return InvalidInput(f"{reason}. GRAFANA_TOKEN is not valid there: make a new one and set it")
        if answer.status_code == httpx.codes.FORBIDDEN:
            return InvalidInput(f"{reason}. The service account needs the role Editor, or dashboards:create and :write")
        if answer.is_redirect or answer.is_success:
            return InvalidInput(f"{reason}. GRAFANA_URL must be Grafana's own address, with its path if it has one")
        return InvalidInput(f"{reason}. Nothing was changed")


def _message(answer: httpx.Response) -> str:
    try:
        message = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        message = answer.reason_phrase
    return str(message)[:LONGEST_MESSAGE]
