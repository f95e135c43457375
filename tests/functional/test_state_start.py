"""A state database that cannot be used stops the start, in one sentence, and is left as it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.clients import boto3_client
from support.outage import locked
from support.server import ServerProcess, clean_environment, command_path
from support.samples import files_below

from deltaglider_core.state import embedded_file
from deltaglider_core.state.keyfile import read_key

DATABASE, KEY = "deltaglider_config.db", "deltaglider_config.key"
#: Makes root respect the mode of a directory, as everybody else has to.
PLAIN_USER = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
