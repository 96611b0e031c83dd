"""ABC tunes of the music21 package, read from its installation, without downloading or copying."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from components.datasets.music.reader import MusicReader
from components.errors import UserError
from components.provenance import digest_file, digest_json

COLLECTIONS = ("ryansMammoth", "oneills1850", "airdsAirs")


class CorpusTunesReader(MusicReader):
    """The melodies of one `collection`: William Bradbury Ryan's of 1883 ("ryansMammoth"), Francis O'Neill's of 1903
    ("oneills1850"), James Aird's of 1782 to 1803 ("airdsAirs"). They have no chords."""

    in_package, files_by = True, "music"

    def __init__(
        self,
        files: Sequence[Path],
        /,
        *,
        collection: Literal["ryansMammoth", "oneills1850", "airdsAirs"] = "ryansMammoth",
        steps_per_beat: Annotated[int, Field(ge=1, le=96)] = 12,
        min_notes: Annotated[int, Field(ge=1)] = 16,
        families: bool = False,
        workers: Annotated[int, Field(ge=1, le=64)] = 2,
    ) -> None:
        found = find_spec("music21")
        roots = list(found.submodule_search_locations or ()) if found else []
        folder = Path(roots[0], "corpus", collection) if roots else Path(collection)
        if not folder.is_dir():
            hint = "pip install -r requirements.lock"
            raise UserError("music21's corpus isn't installed", where=str(folder), hint=hint)
        tunes = sorted(folder.glob("*.abc"))
        own = {"min_notes": min_notes, "families": families, "workers": workers}
        super().__init__(tunes, steps_per_beat=steps_per_beat, parts="melody", **own)

    def digest(self) -> str:
        """Digest of all files that are read."""
        return digest_json([digest_file(file) for file in self.files])
