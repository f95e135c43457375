"""``/_/stats``: how much is stored, for those who may list it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import falcon

from .context import RequestContext
from .errors import S3Error
from .interfaces.auth import Action
from .s3.endpoint import identify, parse_request
from .state.usage import as_json, total, usage

if TYPE_CHECKING:
    from .gateway import Gateway
    from .services import Clock
    from .state.state import State


class StatsResource:
    """Sums of the buckets that the caller may list; signed like any S3 request.

    ``?bucket=NAME`` asks for one; each bucket also stands under ``buckets``.
    """

    def __init__(self, gateway: Gateway, state: State, clock: Clock) -> None:
        self._gateway = gateway
        self._state = state
        self._clock = clock

    async def on_get(self, req: Any, resp: Any) -> None:
        exchange = req.scope["deltaglider.exchange"]
        request_id = uuid.uuid4().hex.upper()
        exchange.log_fields["request_id"] = request_id
        resp.content_type = falcon.MEDIA_JSON
        try:
            with self._gateway.acquire() as pipeline:
                request = parse_request(req.scope, exchange, request_id, self._clock)
                principal = await identify(request, pipeline, exchange)
                context = RequestContext(request=request, principal=principal, pipeline=pipeline)
                name = request.param("bucket")
                if name is None:
                    context.authorize(Action.LIST, "")
                else:
                    context.authorize(Action.LIST, name)
                names = None if name is None else [name]
                found = await self._state.database.read(lambda c: usage(c, names))
                visible = [part for part in found if context.allowed(Action.LIST, part.bucket)]
        except S3Error as error:
            exchange.log_fields["error"] = error.code
            resp.status = error.status
            resp.set_headers(error.headers)
            resp.media = {"error": error.code, "message": error.text}
            return
        finally:
            exchange.operation = "stats"
        resp.media = {
            **as_json(total(visible)),
            "buckets": {part.bucket: as_json(part) for part in visible},
        }


__all__ = ["StatsResource"]
