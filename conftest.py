"""Applies to every test of this repository, those of the plugins included."""

from __future__ import annotations

import sys

# pytest removes the directories of earlier runs with shutil.rmtree, which recurses once per level
# up to Python 3.12, and a valid key makes as many as 1,024 levels: at the default limit of 1,000
# the end of a run, whose tests have all passed, would be a RecursionError.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 5000))
