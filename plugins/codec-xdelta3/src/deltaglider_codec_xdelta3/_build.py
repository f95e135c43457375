"""Builds the extension module ``_xdelta3`` at installation time; never imported at run time.

The C source of xdelta3 3.1.1 is not part of this repository. The distribution ``xdelta3``
0.0.5, a build requirement, installs it in the folder ``lib`` of its package, and
``csrc/encoder.c`` includes it from there. That package is located, not imported: its own
extension module fails on current versions of Python.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).resolve().parent / "csrc"

CDEF = """
typedef struct {
    uint8_t *data;
    size_t size;
    size_t capacity;
} dgx_output;

typedef struct {
    const uint8_t *data;
    size_t size;
} dgx_bytes;

void dgx_initialize(void);
uint64_t *dgx_table_new(int bits);
void dgx_table_free(void *table);
void dgx_table_fill(uint64_t *table, int bits, const uint8_t *reference, uint64_t size,
                    uint64_t step);
int dgx_encode(const uint8_t *reference, uint64_t reference_size, const uint64_t *table,
               int bits, const uint8_t *target, size_t target_size, dgx_output *output);
void dgx_output_free(dgx_output *output);
int dgx_decode(dgx_bytes source, dgx_bytes data, dgx_bytes instructions, dgx_bytes addresses,
               uint8_t *target, size_t target_size);
"""

# Macros that select what xdelta3.c compiles to: encoder, no secondary compression, no
# command line, and 64-bit sizes in windows and files. Python.h defines SIZEOF_SIZE_T.
MACROS = {
    "SIZEOF_UNSIGNED_INT": "__SIZEOF_INT__",
    "SIZEOF_UNSIGNED_LONG": "__SIZEOF_LONG__",
    "SIZEOF_UNSIGNED_LONG_LONG": "__SIZEOF_LONG_LONG__",
    "XD3_USE_LARGEFILE64": "1",
    "XD3_USE_LARGESIZET": "1",
    "XD3_ENCODER": "1",
    "XD3_MAIN": "0",
    "XD3_DEBUG": "0",
    "SECONDARY_DJW": "0",
    "SECONDARY_FGK": "0",
    "SECONDARY_LZMA": "0",
}

# xdelta3 compares words through misaligned pointers, which its authors rely on for speed; a
# vectorising compiler may assume that they are aligned, so it must not vectorise here.
COMPILE_ARGS = ["-O2", "-fno-strict-aliasing", "-fno-tree-vectorize", "-fvisibility=hidden"]


def xdelta3_source() -> Path:
    """Folder that holds ``xdelta3.c``."""
    spec = find_spec("xdelta3")
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location) / "lib"
        if (folder / "xdelta3.c").is_file():
            return folder
    raise SystemExit(
        "deltaglider-codec-xdelta3 is compiled against the C source that the distribution "
        "xdelta3==0.0.5 installs, and it is not installed in this build environment. Build "
        "with isolation, or run: pip install 'xdelta3==0.0.5' 'cffi>=1.16'"
    )


ffibuilder = FFI()
ffibuilder.cdef(CDEF)
ffibuilder.set_source(
    "deltaglider_codec_xdelta3._xdelta3",
    '#include "encoder.c"\n#include "decoder.c"\n',
    include_dirs=[str(CSRC), str(xdelta3_source())],
    define_macros=list(MACROS.items()),
    depends=[str(path) for path in sorted(CSRC.glob("*.c"))],
    extra_compile_args=COMPILE_ARGS,
)
