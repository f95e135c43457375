"""Run the tests of one plugin where nothing but it, the core and the testkit is installed.

What a plugin uses without declaring it is missing there. The packages are built and
installed as a user gets them, not as editable links to the sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"


def plugins() -> list[str]:
    """Folders below ``plugins`` with tests of their own; those of the kit need all plugins."""
    return sorted({path.parts[-3] for path in ROOT.glob("plugins/*/tests/test_*.py")})


def remove_builds() -> None:
    """Forget earlier builds: setuptools would pack files that no longer exist."""
    for project in (ROOT, *ROOT.glob("plugins/*")):
        shutil.rmtree(project / "build", ignore_errors=True)


def install(python: Path, *words: str) -> None:
    """Install into the environment of ``python``, with our pins for builds as well."""
    pins = ("--constraint", os.fspath(CONSTRAINTS), "--build-constraint", os.fspath(CONSTRAINTS))
    command = [os.fspath(python), "-m", "pip", "--quiet", "install"]
    # The pip that comes with Python knows neither build constraints nor groups.
    subprocess.run([*command, *pins[:2], "pip"], check=True, cwd=ROOT)
    subprocess.run([*command, *pins, *words], check=True, cwd=ROOT)


def main(arguments: list[str]) -> int:
    """Build the environment and return the exit code of pytest."""
    name, *words = arguments or [""]
    if name not in plugins():
        print(
            f"There is no plugin {name!r} with tests; write P= and one of: {', '.join(plugins())}.",
            file=sys.stderr,
        )
        return 2
    environment = ROOT / ".cache" / "test-plugin" / name
    shutil.rmtree(environment, ignore_errors=True)
    print(f"Building an environment for {name} in {environment.relative_to(ROOT)} ...", flush=True)
    venv.create(environment, with_pip=True)
    wanted = dict.fromkeys((".", f"./plugins/{name}", "./plugins/testkit"))
    remove_builds()
    install(environment / "bin" / "python", *wanted, "--group", "test-plugin")
    remove_builds()
    command = [
        os.fspath(environment / "bin" / "pytest"),
        "--quiet",
        f"plugins/{name}/tests",
        *words,
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
