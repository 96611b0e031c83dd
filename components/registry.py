"""The registry: names used in recipes → classes.

To add a cell, an encoding, a task or a reader, write one file and add one line here. Classes are imported when needed.
"""

from __future__ import annotations

import importlib
from typing import Any

from components.errors import unknown

TABLE: dict[str, dict[str, str]] = {
    "reader": {
        "text": "components.datasets.text:TextReader",
        "lines": "components.datasets.text:LinesReader",
        "table": "components.datasets.tables:TableReader",
        "conll": "components.datasets.conll:ConllReader",
        "trees": "components.datasets.trees:TreesReader",
        "parallel": "components.datasets.parallel:ParallelReader",
        "labelled-lines": "components.datasets.labelled_lines:LabelledLinesReader",
        "bases": "components.datasets.windows:BasesReader",
        "ts": "components.datasets.series:TsReader",
        "series-rows": "components.datasets.series:SeriesRowsReader",
        "frame-files": "components.datasets.series:FrameFilesReader",
        "series-windows": "components.datasets.series_windows:SeriesWindowsReader",
        "series-table": "components.datasets.series_table:SeriesTableReader",
        "series-lines": "components.datasets.series_lines:SeriesLinesReader",
        "made-series": "components.datasets.made_series:MadeSeries",
        "strokes": "components.datasets.strokes:StrokesReader",
        "made-handwriting": "components.datasets.made_handwriting:MadeHandwriting",
        "tagged-frames": "components.datasets.tagged_frames:TaggedFramesReader",
        "wav": "components.datasets.audio:WavReader",
        "video": "components.datasets.video:VideoReader",
        "moving-shapes": "components.datasets.moving:MovingShapes",
        "copy-memory": "components.datasets.synthetic:CopyMemory",
        "adding": "components.datasets.synthetic:AddingProblem",
        "dates": "components.datasets.dates:Dates",
        "rolls": "components.datasets.rolls:RollsReader",
        "weimar": "components.datasets.weimar:WeimarReader",
        "corpus-tunes": "components.datasets.tunes:CorpusTunesReader",
        "corpus-chorales": "components.datasets.scores:CorpusChoralesReader",
        "music": "components.datasets.music:MusicReader",
        "drums": "components.datasets.performances:DrumsReader",
        "piano": "components.datasets.performances:PianoReader",
        "made-drums": "components.datasets.made_drums:MadeDrums",
        "made-piano": "components.datasets.made_piano:MadePiano",
    },
    "encoding": {
        "characters": "components.encodings.characters:Characters",
        "words": "components.encodings.words:Words",
        "whitespace": "components.encodings.whitespace:Whitespace",
        "subwords": "components.encodings.subwords:Subwords",
        "chorale": "components.encodings.chorale:Chorale",
        "lead_sheet": "components.encodings.lead_sheet:LeadSheet",
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
