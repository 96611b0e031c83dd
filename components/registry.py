"""The registry: names used in recipes → classes.

To add a cell, an encoding, a task or a reader, write one file and add one line here. Classes are imported when needed.
"""

from __future__ import annotations

import importlib
from typing import Any

from components.errors import unknown

TABLE: dict[str, dict[str, str]] = {
    "reader": {
        "text": "components.datasets.text.plain:TextReader",
        "lines": "components.datasets.text.plain:LinesReader",
        "table": "components.datasets.tables.reader:TableReader",
        "conll": "components.datasets.text.conll:ConllReader",
        "trees": "components.datasets.text.trees:TreesReader",
        "parallel": "components.datasets.text.parallel:ParallelReader",
        "labelled-lines": "components.datasets.text.labelled_lines:LabelledLinesReader",
        "bases": "components.datasets.text.bases:BasesReader",
        "ts": "components.datasets.series.labelled:TsReader",
        "series-rows": "components.datasets.series.labelled:SeriesRowsReader",
        "frame-files": "components.datasets.series.labelled:FrameFilesReader",
        "series-windows": "components.datasets.series.windows:SeriesWindowsReader",
        "series-table": "components.datasets.series.table:SeriesTableReader",
        "series-lines": "components.datasets.series.lines:SeriesLinesReader",
        "made-series": "components.datasets.made.series:MadeSeries",
        "strokes": "components.datasets.media.strokes:StrokesReader",
        "made-handwriting": "components.datasets.made.handwriting:MadeHandwriting",
        "tagged-frames": "components.datasets.series.tagged_frames:TaggedFramesReader",
        "wav": "components.datasets.media.audio:WavReader",
        "video": "components.datasets.media.video:VideoReader",
        "moving-shapes": "components.datasets.made.moving:MovingShapes",
        "copy-memory": "components.datasets.made.synthetic:CopyMemory",
        "adding": "components.datasets.made.synthetic:AddingProblem",
        "dates": "components.datasets.made.dates:Dates",
        "rolls": "components.datasets.music.rolls:RollsReader",
        "weimar": "components.datasets.music.weimar:WeimarReader",
        "corpus-tunes": "components.datasets.music.tunes:CorpusTunesReader",
        "corpus-chorales": "components.datasets.music.chorales:CorpusChoralesReader",
        "music": "components.datasets.music.reader:MusicReader",
        "drums": "components.datasets.music.performances:DrumsReader",
        "piano": "components.datasets.music.performances:PianoReader",
        "made-drums": "components.datasets.made.drums:MadeDrums",
        "made-piano": "components.datasets.made.piano:MadePiano",
    },
    "encoding": {
        "characters": "components.encodings.characters:Characters",
        "reversed_characters": "components.encodings.reversed_characters:ReversedCharacters",
        "words": "components.encodings.words:Words",
        "whitespace": "components.encodings.whitespace:Whitespace",
        "subwords": "components.encodings.subwords:Subwords",
        "chorale": "components.encodings.chorale.encoding:Chorale",
        "lead_sheet": "components.encodings.lead_sheet.encoding:LeadSheet",
        "pianoroll": "components.encodings.pianoroll:PianoRoll",
        "tokens": "components.encodings.tokens:Tokens",
        "symbols": "components.encodings.symbols:Symbols",
        "spelled": "components.encodings.spelled:Spelled",
        "labels": "components.encodings.symbols:Labels",
        "ratings": "components.encodings.ratings:Ratings",
        "frames": "components.encodings.frames:Frames",
        "series": "components.encodings.series:SeriesValues",
        "bases": "components.encodings.bases:Bases",
        "motion": "components.encodings.motion:Motion",
        "mel": "components.encodings.mel:Mel",
        "pictures": "components.encodings.pictures:Pictures",
        "pair": "components.encodings.pair:Pair",
        "conditioned": "components.encodings.conditioned:Conditioned",
        "bag": "components.encodings.bag:Bag",
        "events": "components.encodings.events:Events",
        "performance": "components.encodings.performance:Performance",
        "drums": "components.encodings.drums:Drums",
        "notes": "components.encodings.notes:Notes",
        "strokes": "components.encodings.strokes:Strokes",
    },
    "cell": {
        "rnn": "components.layers.rnn:RNN",
        "gru": "components.layers.gru:GRU",
        "lstm": "components.layers.lstm:LSTM",
        "peephole-lstm": "components.layers.peephole_lstm:PeepholeLSTM",
        "mogrifier-lstm": "components.layers.mogrifier_lstm:MogrifierLSTM",
        "slstm": "components.layers.slstm:SLSTM",
        "mlstm": "components.layers.mlstm:MLSTM",
        "mingru": "components.layers.mingru:MinGRU",
        "minlstm": "components.layers.minlstm:MinLSTM",
    },
    "task": {
        "language_model": "components.tasks.language_model:LanguageModel",
        "music": "components.tasks.music:Music",
        "frame_model": "components.tasks.frame_model:FrameModel",
        "note_model": "components.tasks.note_model:NoteModel",
        "stroke_model": "components.tasks.stroke_model:StrokeModel",
        "classification": "components.tasks.classification:Classification",
        "ordinal": "components.tasks.ordinal:OrdinalRegression",
        "forecast": "components.tasks.forecast:Forecast",
        "regression": "components.tasks.regression:Regression",
        "tagging": "components.tasks.tagging:Tagging",
        "transcription": "components.tasks.transcription:Transcription",
        "translation": "components.tasks.translation:Translation",
    },
}

# sections without a kind: the classes that they configure
SECTIONS: dict[str, list[str]] = {
    "training": [
        "components.training.trainer:Trainer",
        "components.training.optim:make_optimizer",
        "components.training.schedule:Schedule",
        "components.training.transfer:Start",
    ],
    "evaluation": ["components.evaluation.evaluator:Evaluator", "components.evaluation.recent:Recent"],
}


def names(kind: str) -> list[str]:
    """The registered names of a kind, in the table's order."""
    return list(TABLE[kind])


def resolve(kind: str, name: str, *, where: str | None = None) -> Any:
    """The class registered as `name`.

    Raises:
        UserError: the name isn't registered; the nearest one is suggested.
    """
    if name not in TABLE[kind]:
        raise unknown(kind, name, TABLE[kind], where=where)
    return _imported(TABLE[kind][name])


def configured(section: str) -> list[Any]:
    """The classes and functions that a section configures."""
    return [_imported(entry) for entry in SECTIONS[section]]


def _imported(entry: str) -> Any:
    module, _, attribute = entry.partition(":")
    return getattr(importlib.import_module(module), attribute)
