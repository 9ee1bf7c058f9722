"""What is decided before a websocket opens: health, metrics, and who may come in."""

import hmac
import http
from collections.abc import Callable

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from vla.serve.metrics import CONTENT_TYPE, Metrics

_SCHEME = "api-key "


class FrontDoor:
    """Answers plain HTTP on the server's port, and lets clients with the token pass.

    /healthz is open to all. /metrics and the websocket ask for `Authorization: Api-Key TOKEN` if there is a token.
    """

    def __init__(self, token: str | None, metrics: Metrics, trouble: Callable[[], str | None]) -> None:
        self._token = None if token is None else token.encode()
        self._metrics = metrics
        self._trouble = trouble

    def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        """The response to a request, or None to open a websocket."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            trouble = self._trouble()
            status = http.HTTPStatus.OK if trouble is None else http.HTTPStatus.SERVICE_UNAVAILABLE
            return connection.respond(status, "OK\n" if trouble is None else f"{trouble}\n")
        if not self._allowed(request.headers):
            response = connection.respond(
                http.HTTPStatus.UNAUTHORIZED, "This server asks for a token: Authorization: Api-Key TOKEN\n"
            )
            response.headers["WWW-Authenticate"] = "Api-Key"
            return response
        if path == "/metrics":
            response = connection.respond(http.HTTPStatus.OK, self._metrics.text().decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = CONTENT_TYPE
            return response
        return None

    def _allowed(self, headers: Headers) -> bool:
        if self._token is None:
            return True
        given = headers.get_all("Authorization")
        if len(given) != 1 or not given[0].lower().startswith(_SCHEME):
            return False
        # Constant time, so that the time a refusal takes says nothing of the token.
        return hmac.compare_digest(given[0][len(_SCHEME) :].strip().encode("utf-8", "surrogateescape"), self._token)
