"""The delta engine: codec-agnostic storage of similar objects as deltas (stored format 1).

``layer.open_delta_layer`` is the entry point; ``docs/reference/stored-format.md`` is the
format, byte by byte.
"""
