"""Patterns for words and signs, by Unicode, shared by the encodings of text.

A word is a run of letters, digits and combining marks (vowel signs, accents, joiners), so that Hindi, Arabic with vowel
marks and Thai stay whole; in languages without spaces, a word is a run between spaces. A sign is one grapheme cluster:
an emoji with its skin tone, a flag. Marks of corpora are one token: <unk>, </s>, <|end|>, and @-@, @,@ and @.@, which
WikiText uses for signs inside words.
"""

from __future__ import annotations

import regex

# Python's `re` treats combining marks as signs. Lengths are bounded, so that a base64 blob is cut.
LETTER = r"[\w\p{N}]"
WORD = rf"{LETTER}{{1,50}}\p{{M}}{{0,12}}"  # not cut before a mark
MARKED = r"</?\|?[A-Za-z][\w-]{0,30}\|?>|@[-,.]@"
BLANK = r"[\s\x1c-\x1f]"  # as in str.isspace
NO_SIGN = r"\w\p{N}\s\x1c-\x1f"
MARKS = r"(?:\p{GCB=EX}|\p{GCB=SM}|\p{GCB=ZWJ}[^" + NO_SIGN + r"]?){0,12}"
SIGN = rf"\p{{RI}}{{2}}|[^{NO_SIGN}]{MARKS}"
# contractions are split as in the Penn Treebank: does n't, it 's
CONTRACTION = r"n['’]t\b|['’](?:s|m|d|re|ve|ll)\b"

SPACE = regex.compile(BLANK)
