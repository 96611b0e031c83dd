"""Compiles the C++ kernels on first use, stores them in the user's cache, and loads them.

A plain C interface through ctypes, not a torch extension: it needs only a C++ compiler (no ninja, no Python headers),
compiles in seconds, and a compiled library works with every version of torch.
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
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from components.errors import UserError, unknown
from components.paths import user_path
from components.whole_files import written_whole

HERE = Path(__file__).parent
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-trapping-math"]
# one object per instruction set, chosen when the library is loaded, so a cache may be shared by machines
X86 = {"avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma"], "avx2": ["-mavx2", "-mfma"]}
INSTRUCTION_SETS = ("avx512", "avx2", "baseline")  # of x86; on ARM there is only neon
LIMIT = "REPRISE_INSTRUCTION_SET"  # environment variable: the widest one to use, for tests and comparisons
COMPILE_SECONDS = 300
SOURCE = HERE / "passes.cpp"
WHERE = "native kernels"

log = logging.getLogger(__name__)
_pointer, _count = ctypes.c_void_p, ctypes.c_int64


class Pass(ctypes.Structure):
    """`Pass` of api.h."""

    _fields_ = [
        *((name, _count) for name in ("T", "B", "H", "threads", "dy_t", "dy_b", "table_rows")),
        *((name, _pointer) for name in ("lengths", "ids", "table", "weight", "bias", "gates", "m", "h", "c")),
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
        *((name, _pointer) for name in ("a", "b", "start", "c", "sums")),
    ]


class Entropy(ctypes.Structure):
    """`Entropy` of api.h."""

    _fields_ = [
        *((name, _count) for name in ("N", "V", "threads", "ignored")),
        *((name, _pointer) for name in ("targets", "logits", "nats")),
    ]


def cache_folder() -> Path:
    """The folder of compiled kernels: $XDG_CACHE_HOME/reprise or ~/.cache/reprise.

    Raises:
        UserError: there is no home folder.
    """
    where = "XDG_CACHE_HOME"
    return user_path(os.environ.get(where) or "~/.cache", where=where) / "reprise" / "kernels"


def limit() -> bytes | None:
    """The widest instruction set that may be used, from $REPRISE_INSTRUCTION_SET; None: no limit.

    Raises:
        UserError: there is no such instruction set.
    """
    name = os.environ.get(LIMIT) or None
    if name not in (None, *INSTRUCTION_SETS):
        raise unknown("instruction set", name, INSTRUCTION_SETS, where=LIMIT)
    return None if name is None else name.encode()


def compiler() -> str:
    """The C++ compiler: $CXX, else the first of c++, g++, clang++ on the path.

    Raises:
        UserError: there is none.
    """
    for name in filter(None, [os.environ.get("CXX"), "c++", "g++", "clang++"]):
        if found := shutil.which(name):
            return found
    raise UserError("no C++ compiler found", where=WHERE, hint="install g++ or clang++, or set CXX")


class Built(NamedTuple):
    """The compiled kernels: their path, the instruction set used here, the compile time (0: already compiled)."""

    path: Path
    instruction_set: str
    seconds: float


def build() -> Built:
    """Compile the kernels ahead of their first use, unless they are in the cache.

    Raises:
        UserError: see `load_native`.
    """
    path = _target("kernels", SOURCE, X86)[0]
    start = None if path.exists() else time.perf_counter()
    name = load_native().reprise_choose(limit()).decode()
    return Built(path, name, 0.0 if start is None else time.perf_counter() - start)


@functools.cache
def load_native() -> ctypes.CDLL:
    """The compiled kernels, compiled now if they aren't in the cache.

    Raises:
        UserError: there is no compiler, it failed, or the cache can't be written.
    """
    return _declare(compiled("kernels", SOURCE, X86))


def compiled(name: str, each: Path, variants: Mapping[str, list[str]]) -> ctypes.CDLL:
    """The library of `each`, compiled for every x86 instruction set of `variants`, and the dispatch.cpp beside it,
    which chooses between them; both may include the headers here. Compiled now if it isn't in the cache.

    Raises:
        UserError: there is no compiler, it failed, or the cache can't be written.
    """
    target, cxx, flags = _target(name, each, variants)
    try:
        if not target.exists():
            _compile(cxx, flags, each, variants, target)
        return ctypes.CDLL(str(target))
    except OSError as error:
        hint = "set XDG_CACHE_HOME to another folder"
        raise UserError(f"can't store or load {target}: {error}", where=WHERE, hint=hint) from error


def _target(name: str, each: Path, variants: Mapping[str, list[str]]) -> tuple[Path, str, list[str]]:
    """The path of the library of these sources and this compiler; the compiler and its flags."""
    cxx = compiler()
    # OpenMP must be the runtime that torch has loaded (one thread pool); macOS' compiler has none: one thread there
    flags = [*FLAGS, f"-I{HERE}"] if platform.system() == "Darwin" else [*FLAGS, f"-I{HERE}", "-fopenmp"]
    sources = sorted({*HERE.glob("*.h"), *each.parent.glob("*.h"), *each.parent.glob("*.cpp")})
    said = [cxx, _version(cxx), *FLAGS, str(variants), platform.machine(), platform.system()]
    digest = hashlib.sha256("\0".join(said).encode() + b"".join(path.read_bytes() for path in sources)).hexdigest()
    return cache_folder() / f"{name}-{digest[:16]}.so", cxx, flags


def _version(cxx: str) -> str:
    return _run([cxx, "--version"]).splitlines()[0]


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"can't run the compiler: {error}", where=WHERE, hint="set CXX to another compiler") from error
    if done.returncode:
        first = "\n".join(done.stderr.splitlines()[:5])
        raise UserError(f"{' '.join(command)} failed:\n{first}", where=WHERE, hint="set CXX to another compiler")
    return done.stdout or done.stderr or "unknown"


def _compile(cxx: str, flags: list[str], each: Path, variants: Mapping[str, list[str]], target: Path) -> None:
    log.info("compiling %s with %s, once; about ten seconds", each, cxx)
    # the baseline of the architecture, and on x86 wider instruction sets
    chosen = {"narrowest": []} | (variants if platform.machine().lower() in ("x86_64", "amd64") else {})
    # written atomically: two processes may compile at the same time
    with written_whole(target) as whole:
        objects = [str(whole.with_suffix(f".{name}.o")) for name in chosen]
        sets = zip(objects, chosen.values(), strict=True)
        commands = [[cxx, *flags, *extra, "-c", str(each), "-o", path] for path, extra in sets]
        with ThreadPoolExecutor() as threads:
            list(threads.map(_run, commands))
        _run([cxx, *flags, "-shared", str(each.parent / "dispatch.cpp"), *objects, "-o", str(whole)])


def _declare(lib: ctypes.CDLL) -> ctypes.CDLL:
    lib.reprise_choose.restype, lib.reprise_choose.argtypes = ctypes.c_char_p, [ctypes.c_char_p]
    for function, result in ((lib.reprise_forward, ctypes.c_bool), (lib.reprise_backward, None)):
        function.restype, function.argtypes = result, [ctypes.c_int, ctypes.POINTER(Pass)]
    for function in (lib.reprise_gather, lib.reprise_scatter):
        function.restype, function.argtypes = ctypes.c_bool, [ctypes.POINTER(Gather)]
    lib.reprise_product.restype, lib.reprise_product.argtypes = None, [ctypes.POINTER(Product)]
    lib.reprise_entropy.restype, lib.reprise_entropy.argtypes = ctypes.c_bool, [ctypes.POINTER(Entropy)]
    log.info("native kernels: %s", lib.reprise_choose(limit()).decode())
    return lib
