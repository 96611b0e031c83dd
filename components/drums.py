"""A drum kit of nine pieces, and the keys of General MIDI's percussion channel that play them.

The pieces and keys follow Roberts et al. (2018) and Gillick et al. (2019), who add the Roland TD-11's keys. Added here:
General MIDI's second bass drum (35), clap (39, as snare) and lowest floor tom (41).
"""

from __future__ import annotations

# from the bottom of a picture to its top
KIT = ("kick", "snare", "closed hi-hat", "open hi-hat", "low tom", "mid tom", "high tom", "crash", "ride")
KEYS = (36, 38, 42, 46, 43, 47, 50, 49, 51)  # with which each piece is written
_KEYS_OF = (
    (36, 35), (38, 37, 40, 39), (42, 22, 44), (46, 26), (43, 58, 41), (47, 45), (50, 48), (49, 52, 55, 57),
    (51, 53, 59),
)  # fmt: skip
PIECE_OF = {key: piece for piece, keys in enumerate(_KEYS_OF) for key in keys}
CHANNEL = 9  # MIDI's percussion channel, counted from 0


def piece_name(key: int) -> str:
    """The name of a percussion key: "snare" for 38, "key 60" if it isn't in the kit."""
    return KIT[PIECE_OF[key]] if key in PIECE_OF else f"key {key}"
