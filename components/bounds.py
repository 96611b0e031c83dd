"""Limits of requests to a model, shared by commands, Python, HTTP and MLflow."""

from __future__ import annotations

MAX_COUNT = 64  # sequences generated at once
MAX_LENGTH = 100_000  # tokens of a sequence
MAX_STEPS = 20_000  # generated frames or notes, and steps of an input: about 64 are in a batch
MOST_BARS = 64  # of a planned piece
MOST_SECONDS = 3600  # of a planned performance, and more can't be said
MAX_CHARACTERS = 100_000  # of a prompt, and of an input text
MAX_PROMPTS = 64  # in one request
MAX_INPUTS = 10_000  # in one request
MAX_SOUND_CHARACTERS = 64 << 20  # of all recordings in one request: about eight minutes of 16 bits at 48 kHz, in base64
MAX_EXPLAINED = 100  # inputs explained at once
MAX_EXPLAINED_STEPS = 2_000  # steps of an explained input, which is evaluated about a hundred times
