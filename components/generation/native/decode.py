"""The compiled sampling loop: the structs of decode.h, and the shared library."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from components.kernels.native import build

HERE = Path(__file__).parent
# processors with AVX-512 but without VNNI run the AVX2 version, which saves a version
X86 = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
}
_pointer, _count = ctypes.c_void_p, ctypes.c_int64


class Layer(ctypes.Structure):
    """`Layer` of decode.h."""

    _fields_ = [
        ("inputs", _count),
        *((name, _pointer) for name in ("weight", "bias", "scale", "offset", "h", "c", "bytes")),
    ]


class Decode(ctypes.Structure):
    """`Decode` of decode.h."""

    _fields_ = [
        *((name, _count) for name in ("kind", "bytes", "layers", "N", "H", "V", "streams", "width", "threads")),
        *((name, _count) for name in ("steps", "phase", "tokens_stride", "allowed_stride", "top_k", "eos")),
        *((name, ctypes.c_double) for name in ("temperature", "top_p")),
        *((name, _pointer) for name in ("layer", "table", "context", "tokens", "allowed", "uniforms")),
        *((name, _pointer) for name in ("start", "logits", "nats", "made", "ended", "alive", "scratch")),
    ]


class Decoder(ctypes.Structure):
    """`Decoder` of decode.h: the loop for one instruction set."""

    _fields_ = [("name", ctypes.c_char_p), ("lanes", _count), ("group", _count), ("run", _pointer)]


@functools.cache
def load_native() -> ctypes.CDLL:
    """The library, compiled on first use.

    Raises:
        UserError: no compiler, it failed, or the cache can't be written.
    """
    lib = build.compiled("decode", HERE / "decode.cpp", X86)
    lib.reprise_decoder.restype, lib.reprise_decoder.argtypes = ctypes.POINTER(Decoder), [ctypes.c_char_p]
    lib.reprise_decode.restype, lib.reprise_decode.argtypes = None, [ctypes.POINTER(Decoder), ctypes.POINTER(Decode)]
    return lib


def decoder(limit: str | None = None) -> ctypes._Pointer[Decoder]:
    """The loop for the widest instruction set of this processor, up to `limit` (see `build.limit`)."""
    return load_native().reprise_decoder(build.limit() if limit is None else limit.encode())
