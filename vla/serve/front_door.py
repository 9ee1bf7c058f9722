"""What is decided before a websocket opens: health, metrics, and who may come in."""

import base64
import binascii
import hmac
import http
from collections.abc import Callable

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from vla.serve.metrics import CONTENT_TYPE, Metrics

_HEALTH = ("/healthz", "/health")  # where openpi's server and the evaluation harness's answer


class FrontDoor:
    """Answers plain HTTP on the server's port, and lets clients with the token pass.

    /healthz is open to all. /metrics and the websocket ask for the token if there is one: `Authorization: Api-Key
    TOKEN`, or as the password of `ws://any:TOKEN@host`, for clients that send no header of their own.
    """

    def __init__(self, token: str | None, metrics: Metrics, trouble: Callable[[], str | None]) -> None:
        self._token = None if token is None else token.encode()
        self._metrics = metrics
        self._trouble = trouble

    def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        """The response to a request, or None to open a websocket."""
        path = request.path.partition("?")[0]
        if path in _HEALTH:
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
        # Constant time, so that the time a refusal takes says nothing of the token.
        return len(given) == 1 and hmac.compare_digest(_token_in(given[0]), self._token)


def _token_in(header: str) -> bytes:
    """What a header says the token is; b"" where it says nothing."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "api-key":
        return rest.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""
