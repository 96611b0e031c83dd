"""Compiles the C++ kernels on first use, keeps them in the user's cache, and loads them.

A plain C interface through ctypes, not a torch extension: it needs a C++ compiler and nothing else (no ninja, no Python
headers), compiles in seconds, and a library compiled once fits every version of torch.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from components.errors import UserError

HERE = Path(__file__).parent
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-trapping-math"]
# one object per instruction set; which one runs is decided when the library is loaded, so a cache may be shared
X86 = {"avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma"], "avx2": ["-mavx2", "-mfma"]}
COMPILE_SECONDS = 300
WHERE = "native kernels"

log = logging.getLogger(__name__)
_pointer, _count = ctypes.c_void_p, ctypes.c_int64


class Pass(ctypes.Structure):
    """`Pass` of api.h."""

    _fields_ = [
        *((name, _count) for name in ("T", "B", "H", "threads")),
        *((name, _pointer) for name in ("lengths", "weight", "bias", "packed", "scratch", "gates", "m", "h", "c")),
        *((name, _pointer) for name in ("dy", "dgates", "dh", "dc", "record")),
    ]


class Gather(ctypes.Structure):
    """`Gather` of api.h."""

    _fields_ = [
        *((name, _count) for name in ("N", "S", "G", "rows_count", "threads", "stride")),
        *((name, _pointer) for name in ("ids", "bias", "table", "steps", "sums")),
    ]


class Product(ctypes.Structure):
    """`Product` of api.h."""

    _fields_ = [
        *((name, _count) for name in ("rows", "K", "columns", "transposed", "threads")),
        *((name, _count) for name in ("stride_a", "stride_b_k", "stride_b_n", "stride_c")),
        *((name, _pointer) for name in ("a", "b", "packed", "c")),
    ]


def cache_folder() -> Path:
    """Where compiled kernels are kept: $XDG_CACHE_HOME/reprise or ~/.cache/reprise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reprise" / "kernels"


def compiler() -> str:
    """The C++ compiler: $CXX, else the first of c++, g++, clang++ on the path.

    Raises:
        UserError: there is none.
    """
    for name in filter(None, [os.environ.get("CXX"), "c++", "g++", "clang++"]):
        if found := shutil.which(name):
            return found
    raise UserError("no C++ compiler found", where=WHERE, hint="install g++ or clang++, or set CXX")


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels, compiled now if this source never was.

    Raises:
        UserError: no compiler, it failed, or the cache can't be written.
    """
    cxx = compiler()
    # OpenMP must be the runtime that torch has loaded (one pool of threads); macOS' compiler has none: one thread then
    flags = FLAGS if platform.system() == "Darwin" else [*FLAGS, "-fopenmp"]
    sources = sorted([*HERE.glob("*.h"), *HERE.glob("*.cpp")])
    said = [cxx, _version(cxx), *flags, str(X86), platform.machine(), platform.system()]
    digest = hashlib.sha256("\0".join(said).encode() + b"".join(path.read_bytes() for path in sources)).hexdigest()
    target = cache_folder() / f"kernels-{digest[:16]}.so"
    try:
        if not target.exists():
            _compile(cxx, flags, target)
        return _load(target)
    except OSError as error:
        raise UserError(f"can't keep or load {target}: {error}", where=WHERE, hint="set XDG_CACHE_HOME") from error


def _version(cxx: str) -> str:
    return _run([cxx, "--version"]).splitlines()[0]


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"the compiler didn't run: {error}", where=WHERE, hint="set CXX to another compiler") from error
    if done.returncode:
        first = "\n".join(done.stderr.splitlines()[:5])
        raise UserError(f"{' '.join(command)} failed:\n{first}", where=WHERE, hint="set CXX to another compiler")
    return done.stdout or done.stderr or "unknown"


def _compile(cxx: str, flags: list[str], target: Path) -> None:
    log.info("compiling the native kernels with %s, once; about ten seconds", cxx)
    target.parent.mkdir(parents=True, exist_ok=True)
    variants = {"baseline": []} | (X86 if platform.machine().lower() in ("x86_64", "amd64") else {})
    # built aside and moved into place: two processes may both compile, neither ever loads half a file
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        objects = [f"{folder}/{name}.o" for name in variants]
        for path, extra in zip(objects, variants.values(), strict=True):
            _run([cxx, *flags, *extra, "-c", str(HERE / "passes.cpp"), "-o", path])
        _run([cxx, *flags, "-shared", str(HERE / "dispatch.cpp"), *objects, "-o", f"{folder}/kernels.so"])
        os.replace(f"{folder}/kernels.so", target)


def _load(path: Path) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(path))
    lib.reprise_choose.restype, lib.reprise_choose.argtypes = ctypes.c_char_p, [ctypes.c_char_p]
    lib.reprise_panel.restype, lib.reprise_panel.argtypes = _count, []
    for name in ("reprise_forward", "reprise_backward"):
        function = getattr(lib, name)
        function.restype, function.argtypes = None, [ctypes.c_int, ctypes.POINTER(Pass)]
    for function in (lib.reprise_gather, lib.reprise_scatter):
        function.restype, function.argtypes = ctypes.c_bool, [ctypes.POINTER(Gather)]
    lib.reprise_product.restype, lib.reprise_product.argtypes = None, [ctypes.POINTER(Product)]
    lib.reprise_huge_pages.restype, lib.reprise_huge_pages.argtypes = None, [_pointer, _count]
    log.info("native kernels: %s", lib.reprise_choose(None).decode())
    return lib
