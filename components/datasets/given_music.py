"""The reader of a piece that a model is given to go on from, to harmonise or to rewrite."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from components.datasets.music import MusicReader
from components.datasets.performances import DrumsReader, PianoReader

PERFORMED = {"drums": DrumsReader, "piano": PianoReader}


def kinds_of(music: int | str) -> tuple[str, ...]:
    """The endings of files of such music."""
    return PERFORMED[music].kinds if isinstance(music, str) else MusicReader.kinds


def music_reader(path: Path, music: int | str, parts: Literal["all", "melody"], workers: int = 2) -> MusicReader:
    """`music`: the steps of a quarter note, or what is performed, drums or piano, which is read whole."""
    if music == "drums":
        return DrumsReader([path], bars=0, min_notes=1, workers=workers)
    if music == "piano":
        return PianoReader([path], seconds=0.0, min_notes=1, workers=workers)
    return MusicReader([path], steps_per_beat=int(music), min_notes=1, parts=parts, workers=workers)
