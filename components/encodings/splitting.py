"""What words and signs are, by Unicode: patterns that the encodings of text share.

A word is a run of letters, digits and combining marks (vowel signs, accents, joiners), so that Hindi, Arabic with vowel
marks and Thai stay whole; languages that are written without spaces are one word from space to space. A sign is one
grapheme cluster: an emoji with its skin tone, a flag. What a corpus marks is one token: <unk>, </s>, <|end|>, and @-@,
@,@ and @.@ as WikiText writes signs that were joined to words.
"""

from __future__ import annotations

import regex

# Python's own `re` takes a combining mark for a sign. Lengths are bounded: what never ends (a base64 blob) is cut.
LETTER = r"[\w\p{N}]"
WORD = rf"{LETTER}{{1,50}}\p{{M}}{{0,12}}"  # not cut before a mark
MARKED = r"</?\|?[A-Za-z][\w-]{0,30}\|?>|@[-,.]@"
BLANK = r"[\s\x1c-\x1f]"  # as str.isspace has it
NO_SIGN = r"\w\p{N}\s\x1c-\x1f"
MARKS = r"(?:\p{GCB=EX}|\p{GCB=SM}|\p{GCB=ZWJ}[^" + NO_SIGN + r"]?){0,12}"
SIGN = rf"\p{{RI}}{{2}}|[^{NO_SIGN}]{MARKS}"
# a contraction is cut as the Penn Treebank does: does n't, it 's
CONTRACTION = r"n['’]t\b|['’](?:s|m|d|re|ve|ll)\b"

SPACE = regex.compile(BLANK)
