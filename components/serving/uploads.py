"""Files in requests: music to harmonise, continue or rewrite, and recordings."""

from __future__ import annotations

import base64
import binascii
import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.answers import input_of, read
from components.bundle import Bundle
from components.datasets.files import sandbox
from components.datasets.music.given import kinds_of, music_reader
from components.encodings.doubts import Doubts
from components.errors import UserError
from components.score import Score
from components.serving.batching import Deadline, turn
from components.serving.problems import Busy, Limits, Refusal, TooLarge
from components.serving.requests import GenerateRequest, GivenSeries, Upload, Wav
from components.use.given import check_one_file


class Uploads:
    """Reads uploaded music in subprocesses, `limits.readers` at once over all requests."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._free = threading.Semaphore(limits.readers)
        self._lock, self._asked = threading.Lock(), 0

    def given(
        self, bundle: Bundle, request: GenerateRequest, deadline: Deadline, told: list[str] | None = None
    ) -> dict[str, Any]:
        """The generation settings for the file of a request: a `melody` is harmonised to its end, a `start` is
        continued, and in a piece to `keep` the region in the settings is regenerated. `told` receives warnings.

        Raises:
            UserError: two files are given, the file can't be read, or the model can't encode such a piece.
            Busy: too many files are waiting; Late, Cancelled: see Deadline.
        """
        files = {name: upload for name in ("melody", "start", "keep") if (upload := getattr(request, name))}
        region = request.settings.rewrite
        check_one_file(list(files), region)
        if not files:
            return {}
        ((name, upload),) = files.items()
        if region:
            bundle.can_rewrite()
        told = [] if told is None else told
        score = self._music(upload, bundle.grid(name), name, deadline, told)
        told += bundle.encoding.doubts(score)
        if region:
            return bundle.rewritten(score, region)
        return bundle.under(score) if name == "melody" else bundle.onwards(score)

    def _music(self, upload: Upload, grid: int | str, where: str, deadline: Deadline, told: list[str]) -> Score:
        """The first piece in a music file; notes on what was read are added to `told`."""
        ending, limits = Path(upload.name).suffix.lower(), self.limits
        kinds = kinds_of(grid)
        if ending not in kinds:
            raise UserError(
                f"{ending[:12]!r} isn't a supported music format", where=where, hint=f"one of {' '.join(kinds)}"
            )
        data = _bytes(upload.base64, where, limits)
        with tempfile.TemporaryDirectory(prefix="reprise-") as folder, self._turn(deadline):
            path = Path(folder) / f"upload{ending}"  # never the name in the request
            path.write_bytes(data)
            parts = "melody" if where == "melody" else "all"
            reader = music_reader(path, grid, parts, workers=1)
            reader.limits = sandbox.Limits(
                cpu_seconds=limits.reader_seconds, memory_bytes=limits.reader_bytes, answer_bytes=16 << 20
            )
            reader.check = deadline.check
            try:
                first, *others = reader.items()
                told += reader.notes
                told += [f"{len(others) + 1:,} pieces; the first is used: {first.title!r}"] if others else []
                return first
            except Refusal:
                raise
            except UserError as error:
                reason = next((row["reason"] for row in reader.report if row.get("reason")), error.what)
                raise UserError(f"no piece could be read: {reason}", where=where) from error

    @contextlib.contextmanager
    def _turn(self, deadline: Deadline) -> Iterator[None]:
        with self._lock:
            if self._asked >= self.limits.readers + self.limits.readers_waiting:
                raise Busy(f"{self._asked} files are waiting to be read", hint="try again in a moment")
            self._asked += 1
        try:
            with turn(self._free, deadline):
                yield
        finally:
            with self._lock:
                self._asked -= 1


def item(bundle: Bundle, one: Any, where: str, limits: Limits, doubts: Doubts) -> Any:
    """An input converted for the model; warnings are added to `doubts`.

    Raises:
        UserError: the model doesn't take such an input; TooLarge: too many bytes.
    """
    given = _bytes(one.wav_base64, where, limits) if isinstance(one, Wav) else one
    given = given.model_dump(exclude_none=True) if isinstance(given, GivenSeries) else given
    return read(input_of(bundle.encoding), given, where, doubts)


def _bytes(text: str, where: str, limits: Limits) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise UserError(f"isn't base64: {error}", where=where) from None
    if len(data) > limits.upload_bytes:
        raise TooLarge(f"{len(data):,} bytes; at most {limits.upload_bytes:,} are allowed", where=where)
    return data
