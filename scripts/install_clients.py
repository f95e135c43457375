"""Install the S3 clients of the tests that cannot live in ``.venv``; needs no root.

=============  ======================================  ========================================
client         where from                              where to
=============  ======================================  ========================================
JavaScript     npm, ``tests/clients/js``               ``tests/clients/js/node_modules``
s3fs           PyPI, ``tests/clients/s3fs``            ``.cache/clients/s3fs``, an environment
restic         ``PATH``, else Debian's archive         ``.cache/clients/restic``
curl           ``PATH``                                nothing is installed
=============  ======================================  ========================================
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ROOT / ".cache" / "clients"
JAVASCRIPT = ROOT / "tests" / "clients" / "js"
S3FS = ROOT / "tests" / "clients" / "s3fs"
S3FS_PYTHON = CLIENTS / "s3fs" / "bin" / "python"
RESTIC = CLIENTS / "restic" / "usr" / "bin" / "restic"
#: Below it, AWS's SDK for JavaScript v3 has no support.
NODE_MAJOR = 20

Find = Callable[[str], str | None]


class Missing(Exception):
    """Something that has to be there already; the text says what to install."""


def problem(find: Find = shutil.which) -> str:
    """The first program that is missing on this machine as a sentence, or an empty string."""
    if find("curl") is None:
        return "The client tests need curl: install it (Debian and Ubuntu: apt-get install curl)."
    if find("node") is None or find("npm") is None:
        return (
            f"The client tests need Node.js {NODE_MAJOR} or newer with npm: install them "
            "(Debian and Ubuntu: apt-get install nodejs npm)."
        )
    if find("restic") is None and (find("apt-get") is None or find("dpkg-deb") is None):
        return (
            "The client tests need restic, and without apt-get it cannot be fetched: install it "
            "(the package is called restic on Debian, Ubuntu, Fedora and Homebrew)."
        )
    return ""


def node_problem(version: str) -> str:
    """Why a Node.js of this version, such as ``v20.1.2``, does not do; or an empty string."""
    major = version.strip().removeprefix("v").partition(".")[0]
    if major.isdigit() and int(major) >= NODE_MAJOR:
        return ""
    return (
        f"The client tests need Node.js {NODE_MAJOR} or newer, but node is {version.strip()}: "
        "install a newer one."
    )


def restic_command() -> str:
    """Path of restic: the machine's own, else the one below ``.cache``."""
    return shutil.which("restic") or os.fspath(RESTIC)


def install_javascript() -> None:
    """Exactly what the lock file says; what was there before is removed."""
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)
    if sentence := node_problem(version.stdout):
        raise Missing(sentence)
    words = ("ci", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts")
    subprocess.run(["npm", *words], cwd=JAVASCRIPT, check=True, stdout=subprocess.DEVNULL)


def install_s3fs() -> None:
    """A fresh environment with the pinned versions."""
    environment = S3FS_PYTHON.parent.parent
    shutil.rmtree(environment, ignore_errors=True)
    venv.create(environment, with_pip=True)
    words = ("-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    files = ("--requirement", S3FS / "requirements.txt", "--constraint", S3FS / "constraints.txt")
    subprocess.run([S3FS_PYTHON, *words, *files], check=True)


def install_restic() -> None:
    """Unpack Debian's package; an index that is missing or stale is fetched to a place of ours."""
    if shutil.which("restic") is not None:
        return
    with tempfile.TemporaryDirectory(prefix="deltaglider-restic-") as name:
        here = Path(name)
        for folder in ("lists/partial", "cache/archives/partial"):
            (here / folder).mkdir(parents=True)
        own = (f"Dir::State::lists={here / 'lists'}", f"Dir::Cache={here / 'cache'}")
        if not apt_get(here, "download", "restic"):
            apt_get(here, "update", options=own)
            if not apt_get(here, "download", "restic", options=own):
                raise Missing(
                    "The client tests need restic, and apt-get could not download the package: "
                    "install restic (Debian and Ubuntu: apt-get install restic)."
                )
        (package,) = here.glob("restic_*.deb")
        target = RESTIC.parent.parent.parent
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", package, target], check=True)


def apt_get(here: Path, *words: str, options: Sequence[str] = ()) -> bool:
    """Whether ``apt-get`` did it, in the directory ``here``."""
    # apt's own user could not write there.
    all_options = ("APT::Sandbox::User=root", *options)
    settings = [word for option in all_options for word in ("--option", option)]
    command = ["apt-get", "--quiet", "--quiet", *settings, *words]
    return subprocess.run(command, cwd=here, check=False, capture_output=True).returncode == 0


def main() -> int:
    """Install everything; return the exit code."""
    try:
        if sentence := problem():
            raise Missing(sentence)
        CLIENTS.mkdir(parents=True, exist_ok=True)
        install_javascript()
        install_s3fs()
        install_restic()
    except Missing as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
