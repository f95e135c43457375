"""Adds the C extension, for which ``pyproject.toml`` has no place."""

from setuptools import setup

setup(cffi_modules=["src/deltaglider_codec_xdelta3/_build.py:ffibuilder"])
