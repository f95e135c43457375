"""``deltaglider_proxy quickstart``: from nothing to a serving endpoint with one command."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import string
from pathlib import Path

import yaml

from .configfile import EXIT_IO, SEARCH_PATH, find_config
from .errors import ConfigurationError
from .listen import format_address
from .loading import Loaded
from .serve import ServeOptions, serve
from .tls import certificate_to_trust

DEFAULT_FILE = Path(SEARCH_PATH[0])
DEFAULT_LISTEN = "127.0.0.1:9000"
DEFAULT_DATA = "./data"

#: A key for services that are open to everybody: any would do.
ANYBODY = "anonymous"

#: The shapes of AWS: 20 upper-case letters and digits, and 40 characters. The secret has no
#: ``/`` and ``+``, which would need quotes or escapes in places where people paste it.
ACCESS_KEY_PREFIX = "DGAK"
_ACCESS_KEY_ALPHABET = string.ascii_uppercase + string.digits
_SECRET_ALPHABET = string.ascii_letters + string.digits


def fresh_keys() -> tuple[str, str]:
    """A new key pair: 16 random characters (82 bits), and a secret of 40 (238 bits)."""
    key = ACCESS_KEY_PREFIX + "".join(secrets.choice(_ACCESS_KEY_ALPHABET) for _ in range(16))
    return key, "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(40))


def write_config(path: Path, data: str, *, tls: bool = False) -> None:
    """Write a configuration of a few lines with fresh keys, readable by the owner alone.

    Args:
        tls: Have it say so, that ``serve`` does the same.

    Raises:
        FileExistsError: There is a file already, which stays as it is.
        ConfigurationError: It cannot be written.
    """
    key, secret = fresh_keys()
    # A YAML scalar: a directory may be called anything.
    directory = yaml.safe_dump(data, allow_unicode=True, width=10**6).splitlines()[0]
    text = (
        f"storage:\n  filesystem: {directory.replace('$', '$$')}\n"
        f"access:\n  access_key_id: {key}\n  secret_access_key: {secret}\n"
    )
    if tls:
        text += "advanced:\n  tls:\n    enabled: true\n"
    try:
        # A file in the place of the directory is not a configuration that exists.
        if not path.parent.is_dir():
            os.makedirs(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        # O_EXCL also refuses a dangling symbolic link that somebody has put there.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        # Half a key pair would only confuse the next run.
        path.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"cannot write the configuration {path}: {error.strerror or error}", exit_code=EXIT_IO
    )


def quickstart(
    *,
    config: Path | None = None,
    listen: str | None = None,
    data: str | None = None,
    tls: bool = False,
    workers: int = 1,
    verbose: bool = False,
) -> int:
    """Write a configuration unless there is one, print how to use it, and serve.

    Args:
        config: The file; without it the one that ``serve`` would find, or
            ``./deltaglider_proxy.yaml``.
        listen: Address and port.
        data: Directory of the objects.
        tls: Serve https, whatever the configuration says.
        workers: Number of processes.
        verbose: Log at debug level.

    Returns:
        The exit code.

    Raises:
        ConfigurationError: The service cannot start.
    """
    path = find_config(config, os.environ) or DEFAULT_FILE
    try:
        write_config(path, data or DEFAULT_DATA, tls=tls)
        created = True
    except FileExistsError:
        created = False
    options = ServeOptions(
        config=os.fspath(path),
        listen=listen,
        data=data,
        tls=tls,
        default_listen=DEFAULT_LISTEN,
        workers=workers,
        verbose=verbose,
    )
    print(f"{'Wrote' if created else 'Using'} the configuration {path}", flush=True)
    return serve(options, lambda url, loaded: print(instructions(url, loaded), flush=True))


def instructions(url: str, loaded: Loaded) -> str:
    """Text with the endpoint, the keys and commands to paste.

    The keys are shown on purpose: this is the one command whose output is for the person who
    owns them.
    """
    trusted = certificate_to_trust(loaded)
    access = loaded.settings.access
    if access.access_key_id is not None and access.secret_access_key is not None:
        key, secret = access.access_key_id, access.secret_access_key.get_secret_value()
    else:
        # Open to everybody, but clients insist on signing.
        key = secret = ANYBODY
    lines = (
        f"export AWS_ACCESS_KEY_ID={shlex.quote(key)}",
        f"export AWS_SECRET_ACCESS_KEY={shlex.quote(secret)}",
        "export AWS_DEFAULT_REGION=us-east-1",
        f"export AWS_ENDPOINT_URL={_reachable(url)}",
        *([] if trusted is None else [f"export AWS_CA_BUNDLE={shlex.quote(os.fspath(trusted))}"]),
        "",
        "# two files that are alike; take real ones if you have them",
        "head -c 8000000 /dev/urandom > app-1.0.zip",
        "(cat app-1.0.zip; date) > app-1.1.zip",
        "",
        "aws s3 mb s3://builds",
        "aws s3 cp app-1.0.zip s3://builds/releases/",
        "aws s3 cp app-1.1.zip s3://builds/releases/   # stored as a delta of the first",
        "aws s3 ls s3://builds/releases/",
    )
    body = "\n".join(f"  {line}".rstrip() for line in lines)
    hint = "" if shutil.which("aws") else "There is no aws command here: pip install awscli\n\n"
    return (
        f"\nDeltaGlider serves S3 on {_reachable(url)}\n\n"
        f"Paste into another terminal:\n\n{body}\n\n{hint}Stop with Ctrl+C.\n"
    )


def _reachable(url: str) -> str:
    """The URL for a client on this machine: a wildcard address is none."""
    scheme, _, address = url.partition("://")
    host, _, port = address.rpartition(":")
    local = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host)  # noqa: S104  # compared only
    return url if local is None else f"{scheme}://{format_address(local, int(port))}"


__all__ = ["fresh_keys", "instructions", "quickstart", "write_config"]
