"""The kinds of data: the first likely one is chosen, the others are alternatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from components.datasets.files.folders import ending
from components.datasets.files.text import TextFiles
from components.errors import UserError, unknown
from components.proposals import media, series, series_lines, tables, texts, unfit
from components.proposals.base import Look, Proposal, Stopped, Unlike
from components.proposals.columns import grid_of
from components.proposals.texts import OF_LINES


@dataclass(frozen=True)
class Kind:
    """A kind of data. `means`: description for users. `propose` raises Unlike if the data aren't of the kind."""

    reader: str
    means: str
    propose: Callable[[Look], Proposal]


KINDS: dict[str, Kind] = {
    "strokes": Kind("strokes", "new drawings, stroke by stroke", media.strokes),
    "rolls": Kind("rolls", "continuing piano rolls", media.rolls),
    "melody": Kind("music", "a model of melodies over chords", media.melody),
    "events": Kind("music", "a model of all instruments", media.events),
    "chorales": Kind("music", "a model of four voices", media.chorales),
    "drums": Kind("drums", "drum patterns, as they were played", media.drums),
    "piano": Kind("piano", "piano performances, as they were played", media.piano),
    "recordings": Kind("wav", "what is said in recordings", media.recordings),
    "videos": Kind("video", "the label of a video", media.videos),
    "ts": Kind("ts", "the label of a series", series.ts),
    "frame-files": Kind("frame-files", "the label of a file of frames", series.frame_files),
    "parallel": Kind("parallel", "a translation, line by line", texts.parallel),
    "bases": Kind("bases", "the label of a sequence of bases", texts.bases),
    "conll": Kind("conll", "a tag for each word", texts.conll),
    "forecast": Kind("series-table", "what comes next in series over time, as a distribution", series.forecast),
    "series-lines": Kind(
        "series-lines", "what comes next in series that stand one on each line", series_lines.series_lines
    ),
    "tagged-frames": Kind("tagged-frames", "a label for each line of numbers", series.tagged_frames),
    "series-labels": Kind("series-rows", "a label for each row of numbers", series.rows_labels),
    "series-numbers": Kind("series-rows", "a number for each row of numbers", series.rows_numbers),
    "windows": Kind("series-windows", "the next numbers of one long series", series.windows),
    "ratings": Kind("table", "a rating for each text in a table", tables.ratings),
    "numbers": Kind("table", "a number for each text in a table", tables.numbers),
    "labels": Kind("table", "a label for each text in a table", tables.labels),
    "pairs": Kind("table", "another text for each text in a table", tables.pairs),
    "labelled-lines": Kind("labelled-lines", "the label of a line: its file's or folder's name", texts.labelled_lines),
    "tokens": Kind("text", "continuing a text that is already split into tokens", texts.tokens),
    "lines": Kind("lines", "new lines like these", texts.lines),
    "text": Kind("text", "continuing one long text", texts.text),
}

TABLES = {"table", "series-rows", "series-windows", "tagged-frames"}
TEXTS = {"tokens", "lines", "text", "labelled-lines"}  # kinds that fit any text

# readers that are never proposed, and why
NEVER = {
    "made-series": "makes its data",
    "made-handwriting": "makes its data",
    "made-drums": "makes its data",
    "made-piano": "makes its data",
    "moving-shapes": "makes its data",
    "copy-memory": "makes its data",
    "adding": "makes its data",
    "dates": "makes its data",
    "corpus-tunes": "reads a corpus in a package",
    "corpus-chorales": "reads a corpus in a package",
    "trees": "reads the trees of one treebank, which has a card",
    "weimar": "reads the tables of one archive, which has a card",
}

# endings of unsupported files, and what to do instead
INSTEAD = {
    ".png .jpg .jpeg .bmp .webp .tif .tiff": "pictures are read as sequences: videos, or .npy files [steps, height, "
    "width], in a folder for each label",
    ".mp3 .flac .ogg .opus .m4a .aac .aiff .wma": "recordings are read as WAV: ffmpeg -i IN OUT.wav",
    ".xlsx .xls .ods": "save the sheet as CSV",
    ".jsonl .ndjson .json .xml .html .htm .yaml .yml": "convert the texts to a CSV table, or to text files",
    ".mscz .mscx .gp .gpx .gp3 .gp4 .gp5 .ly .mei .sib .musx": "scores are read as MusicXML, MIDI, ABC or kern: export "
    "them as MusicXML",
    ".srt .vtt .po .tmx .xliff .xlf .ipynb .fastq .fq .inkml .ann": "convert it to plain text, or to a CSV table; as "
    "it is: --as text",
    ".pdf .docx .doc .odt .epub .rtf": "save it as plain text",
    ".pkl .pickle .p .pt .pth .joblib": "pickle files can run code and aren't opened: save a CSV table or .npy files",
    ".h5 .hdf5 .nc .feather .arrow .db .sqlite .arff .rda .rds .dta .sav .sas7bdat .xpt": "save the data as CSV or "
    "Parquet",
    ".npy .npz .mat": "put .npy files of frames into one folder per label; piano rolls need 88 or 128 keys of 0 and 1",
}
NEEDED = (
    "supported: text files, tables (CSV, TSV, Parquet), MIDI and scores, WAV files with a table of their texts, "
    "videos in one folder per label, piano rolls, .ts series, FASTA"
)
# endings that are read under conditions, and the kind whose error names them
NEAREST = {
    ".wav .wave": "recordings",
    ".mp4 .avi .mov .mkv .webm .gif": "videos",
    ".fa .fasta .fna .fas": "bases",
    ".parquet .pq": "windows",
}


def candidates(look: Look, wanted: str | None = None) -> tuple[str, dict[str, Proposal]]:
    """(the chosen kind, the proposals of all kinds that fit the data).

    Raises:
        UserError: there is no such kind, the data aren't of it, or no kind fits.
    """
    if wanted is not None and wanted not in KINDS:
        raise unknown("kind", wanted, KINDS, where="--as")
    found: dict[str, Proposal] = {}
    reasons: dict[str, str] = {}
    for name, kind in KINDS.items():
        try:
            found[name] = kind.propose(look)
        except Stopped as stopped:
            reasons[name] = str(stopped)
            if wanted is None:
                raise UserError(str(stopped), where=look.shown, hint=stopped.hint) from None
        except Unlike as unlike:
            reasons[name] = str(unlike)
    if wanted is not None:
        if wanted not in found:
            others = f"it can be read as {', '.join(found)}" if found else None
            raise UserError(f"not {wanted}: {reasons[wanted]}", where=f"--as: {look.shown}", hint=others)
        return wanted, found
    hint, near = _of(look, INSTEAD), _of(look, NEAREST)
    taken = next((name for name, proposal in found.items() if proposal.likely), next(iter(found), ""))
    if not found or ((hint or near) and taken in TEXTS):
        what = reasons[near] if near else _why(look, reasons, hint)
        raise UserError(what, where=look.shown, hint=hint or NEEDED)
    try:
        unfit.check(look, taken)
    except Stopped as stopped:
        raise UserError(str(stopped), where=look.shown, hint=stopped.hint) from None
    return taken, found


def worth_telling(name: str, taken: str, look: Look) -> bool:
    """Whether to list a fitting kind `name` as an alternative to the chosen one, `taken`. The kinds of TEXTS fit any
    text file; for a table they are listed only if its ending is one of texts, or commas are the only sign of a table.
    """
    if taken in TEXTS or name not in TEXTS:
        return True
    if KINDS[taken].reader not in TABLES or name not in ("lines", "text"):
        return False
    return ending(look.files[0]) in OF_LINES[:-1] or (grid_of(look).separator == "comma" and not grid_of(look).header)


def _why(look: Look, reasons: dict[str, str], hint: str) -> str:
    if all(path.stat().st_size == 0 for path in look.files):
        return "it is empty"
    if hint:
        return f"{ending(look.files[0])} files can't be read directly"
    if look.texts:
        return reasons["text"]
    return TextFiles(dropped=Counter()).fits(look.files[0]) or "not text"


def _of(look: Look, hints: dict[str, str]) -> str:
    """The hint for the ending of at least half of the files (recordings beside their texts); "" if there is none."""
    return next((hint for endings, hint in hints.items() if look.having(tuple(endings.split()), half=True)), "")
