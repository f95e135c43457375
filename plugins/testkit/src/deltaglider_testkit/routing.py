"""Conformance of routers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from deltaglider_core.interfaces.routing import Route, Router

from .purity import STRANGE_NAMES, no_io


class RouterConformance:
    """What every ``Router`` must do: pure, total, deterministic, no I/O.

    Inherit, and override the fixtures ``router`` and ``routes``.
    """

    @pytest.fixture
    def router(self) -> Router:
        """The router under test, open."""
        raise NotImplementedError("override the fixture `router`")

    @pytest.fixture
    def routes(self) -> Mapping[str, Route | None]:
        """Some buckets and where they go; None for one that is not this router's."""
        raise NotImplementedError("override the fixture `routes`")

    def test_is_a_router(self, router: Router) -> None:
        assert isinstance(router, Router)

    def test_routes(self, router: Router, routes: Mapping[str, Route | None]) -> None:
        assert routes
        with no_io():
            assert {bucket: router.resolve(bucket) for bucket in routes} == dict(routes)

    def test_total(self, router: Router) -> None:
        """Any string has an answer."""
        for name in STRANGE_NAMES:
            with no_io():
                route = router.resolve(name)
            assert route is None or isinstance(route, Route)
            assert route is None or (route.backend and isinstance(route.bucket, str))

    def test_deterministic(self, router: Router, routes: Mapping[str, Route | None]) -> None:
        for name in (*routes, *STRANGE_NAMES):
            with no_io():
                answers = [router.resolve(name) for _ in range(3)]
            assert answers[0] == answers[1] == answers[2]
