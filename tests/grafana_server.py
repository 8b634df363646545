"""A local HTTP server that answers `POST /api/dashboards/import` as Grafana documents it, refusals included.

https://grafana.com/docs/grafana/latest/developer-resources/api-reference/http-api/, and the messages of
pkg/services/dashboardimport and pkg/services/dashboards in its sources (12.x). There is no Grafana to test with.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from tests.http_server import local_server, serving

TOKEN = "glsa_valid"
Answer = tuple[int, dict[str, Any]]


@dataclass
class FakeGrafana:
    """What the server holds.

    Attributes:
        fails: answers 500 to everything.
    """

    url: str = ""
    folders: set[str] = field(default_factory=lambda: {"", "everreach"})
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    fails: bool = False

    def answer(self, path: str, authorization: str | None, body: bytes) -> Answer:
        if self.fails:
            return 500, {"message": "Failed to save dashboard"}
        if path != "/api/dashboards/import":
            return 404, {"message": "Not found"}
        if authorization == "Bearer glsa_viewer":
            return 403, {"message": "You'll need additional permissions to perform this action."}
        if authorization != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key"}
        try:
            return self._import(json.loads(body))
        except ValueError:
            return 400, {"message": "bad request data"}

    def _import(self, request: dict[str, Any]) -> Answer:
        dashboard = request.get("dashboard")
        if dashboard is None:
            return 422, {"message": "Dashboard must be set"}
        given = {each["name"] for each in request.get("inputs", ())}
        for each in dashboard.get("__inputs", ()):
            if each["name"] not in given:
                return 400, {"message": f"Dashboard input variable: {each['name']} missing from import command"}
        uid, folder = dashboard.get("uid", ""), request.get("folderUid", "")
        for is_refused, message in (
            (not dashboard.get("title"), "Dashboard title cannot be empty"),
            (len(uid) > 40, "uid too long, max 40 characters"),
            (not re.fullmatch(r"[A-Za-z0-9_-]*", uid), "uid contains illegal characters"),
            (folder not in self.folders, "folder not found"),
        ):
            if is_refused:
                return 400, {"message": message}
        if uid in self.dashboards and not request.get("overwrite"):
            return 412, {"message": "A dashboard with the same uid already exists", "status": "name-exists"}
        self.dashboards[uid] = dashboard | {"folderUid": folder}
        return 200, {"uid": uid, "title": dashboard["title"], "imported": True, "importedUrl": f"/d/{uid}/x"}


class _Handler(BaseHTTPRequestHandler):
    grafana: ClassVar[FakeGrafana]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.grafana.answer(self.path, self.headers["Authorization"], body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the library gives it
        pass


@contextlib.contextmanager
def running_grafana() -> Iterator[FakeGrafana]:
    grafana = FakeGrafana()
    handler = type("Handler", (_Handler,), {"grafana": grafana})
    server = local_server(handler)
    grafana.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield grafana
