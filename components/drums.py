"""The drum kit of nine pieces, and the keys of General MIDI's percussion channel that play them.

The pieces and the keys are those of Roberts et al. (2018) and Gillick et al. (2019), who add the Roland TD-11's keys;
General MIDI's second bass drum (35), clap (39, for the snare) and lowest floor tom (41) are ours.
"""

from __future__ import annotations

# from the bottom of a picture to its top
KIT = ("kick", "snare", "closed hi-hat", "open hi-hat", "low tom", "mid tom", "high tom", "crash", "ride")
KEYS = (36, 38, 42, 46, 43, 47, 50, 49, 51)  # by which each piece is written
_KEYS_OF = (
    (36, 35), (38, 37, 40, 39), (42, 22, 44), (46, 26), (43, 58, 41), (47, 45), (50, 48), (49, 52, 55, 57),
    (51, 53, 59),
)  # fmt: skip
PIECE_OF = {key: piece for piece, keys in enumerate(_KEYS_OF) for key in keys}
CHANNEL = 9  # of MIDI, counted from 0, that percussion is on


def piece_name(key: int) -> str:
    """What a percussion key plays: "snare" for 38, "key 60" where it is no piece of the kit."""
    return KIT[PIECE_OF[key]] if key in PIECE_OF else f"key {key}"
