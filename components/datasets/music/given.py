"""The reader of music given to a model, to continue, harmonise or rewrite."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from components.datasets.music.performances import DrumsReader, PerformanceReader, PianoReader
from components.datasets.music.reader import MusicFiles, MusicReader


def kinds_of(music: int | str) -> tuple[str, ...]:
    """The file suffixes of such music."""
    return PerformanceReader.kinds if isinstance(music, str) else MusicReader.kinds


def music_reader(path: Path, music: int | str, parts: Literal["all", "melody"], workers: int = 2) -> MusicFiles:
    """`music`: the steps of a quarter note, or "drums" or "piano" for performances, which are read whole."""
    if music == "drums":
        return DrumsReader([path], bars=0, min_notes=1, workers=workers)
    if music == "piano":
        return PianoReader([path], seconds=0.0, min_notes=1, workers=workers)
    return MusicReader([path], steps_per_beat=int(music), min_notes=1, parts=parts, workers=workers)
