"""Say in one sentence what this machine lacks before anything is installed.

Run by ``make`` with the interpreter that is going to create ``.venv``. The file keeps to
syntax that interpreters since 3.6 can read, so that an old one gets the sentence and not
a traceback; hence the quoted annotations.
"""

import os
import shlex
import shutil
import sys
import sysconfig
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MINIMUM = (3, 11)


def compiler(environ: "Mapping[str, str]", configured: str) -> str:
    """Name of the C compiler that setuptools is going to call."""
    words = shlex.split(environ.get("CC") or configured)
    return words[0] if words else "cc"


def problem(
    version: "Sequence[int]",
    environ: "Mapping[str, str]",
    find: "Callable[[str], str | None]" = shutil.which,
    exists: "Callable[[str], bool]" = os.path.exists,
) -> str:
    """Return the first thing that is missing as a sentence, or an empty string."""
    if tuple(version) < MINIMUM:
        return (
            "DeltaGlider needs Python 3.11 or newer, but "
            f"{sys.executable} is {version[0]}.{version[1]}: install python3.11 or newer "
            "and its development headers, then run make PYTHON=python3.11."
        )
    try:
        import ensurepip  # noqa: F401  # Debian ships venv without it
    except ImportError:
        return (
            "This Python cannot create virtual environments with pip: install the venv package "
            "of your system (Debian and Ubuntu: apt-get install python3-venv)."
        )
    command = compiler(environ, sysconfig.get_config_var("CC") or "")
    if find(command) is None:
        return (
            f"DeltaGlider builds its delta codec from C, but there is no C compiler ({command}): "
            "install one (Debian and Ubuntu: apt-get install build-essential; "
            "Fedora: dnf install gcc)."
        )
    header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
    if not exists(header):
        return (
            "DeltaGlider builds its delta codec from C, but the headers of this Python are missing "
            f"({header}): install them (Debian and Ubuntu: apt-get install python3-dev; "
            "Fedora: dnf install python3-devel)."
        )
    return ""


if __name__ == "__main__":
    sentence = problem(sys.version_info[:2], os.environ)
    if sentence:
        sys.exit(sentence)
