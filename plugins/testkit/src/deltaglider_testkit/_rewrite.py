"""Assertion rewriting for the kit itself; must be imported before the other modules.

pytest rewrites the modules of an installed plugin by itself, but knows them from the list of
installed files, which an editable installation does not have.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    *(
        f"deltaglider_testkit.{name}"
        for name in (
            "admission",
            "auth",
            "codec",
            "layer",
            "plugin",
            "purity",
            "routing",
            "storage",
        )
    )
)
