"""ABC tunes of the music21 package, read from its installation, without downloading or copying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from components.datasets.music.reader import MusicFiles
from components.errors import UserError
from components.provenance import digest_file, digest_json


@dataclass(kw_only=True, eq=False)
class CorpusTunesReader(MusicFiles):
    """The melodies of one `collection`: William Bradbury Ryan's of 1883 ("ryansMammoth"), Francis O'Neill's of 1903
    ("oneills1850"), James Aird's of 1782 to 1803 ("airdsAirs"). They have no chords."""

    in_package, files_by = True, "music"
    parts, beats, melody_track, chords_track, max_seconds = "melody", "file", None, None, 1800.0

    collection: Literal["ryansMammoth", "oneills1850", "airdsAirs"] = "ryansMammoth"
    steps_per_beat: Annotated[int, Field(ge=1, le=96)] = 12
    min_notes: Annotated[int, Field(ge=1)] = 16
    families: bool = False

    def __post_init__(self, files: Sequence[Path]) -> None:
        found = find_spec("music21")
        roots = list(found.submodule_search_locations or ()) if found else []
        folder = Path(roots[0], "corpus", self.collection) if roots else Path(self.collection)
        if not folder.is_dir():
            hint = "pip install -r requirements.lock"
            raise UserError("music21's corpus isn't installed", where=str(folder), hint=hint)
        super().__post_init__(sorted(folder.glob("*.abc")))

    def digest(self) -> str:
        """Digest of all files that are read."""
        return digest_json([digest_file(file) for file in self.files])
