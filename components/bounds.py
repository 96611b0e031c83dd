"""How much a model may be asked for at once, wherever it is asked: by a command, in Python, over HTTP, in MLflow."""

from __future__ import annotations

MAX_COUNT = 64  # sequences that are written side by side
MAX_LENGTH = 100_000  # tokens of one
MAX_STEPS = 20_000  # of frames or notes that are written, and of an item to be answered: some 64 lie side by side
MOST_BARS = 64  # that a piece can be planned to have
MAX_CHARACTERS = 100_000  # of a prompt, and of a text to be answered
MAX_PROMPTS = 64  # in one request
MAX_INPUTS = 10_000  # to be answered in one request
MAX_SOUND_CHARACTERS = 64 << 20  # of all recordings in one: some eight minutes of 16 bits at 48 kHz, in base64
MAX_EXPLAINED = 100  # inputs to be explained at once
MAX_EXPLAINED_STEPS = 2_000  # of one: its contributions take some hundred readings of it
