"""Text encodings of files: named or detected."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from components.errors import listed, meant

AUTO = "auto"
COMMON = ("utf-8", "utf-16", "latin-1", "cp1252", "cp1251", "gbk", "gb18030", "big5", "shift-jis", "euc-kr", "koi8-r")
NO_FILES = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined")  # not for text files
NAMED = 5  # lines in a message
SAMPLE = 64 << 10  # bytes that detection looks at
MIXED = re.compile(r"[A-Za-z][\u0370-\u06ff\u0e01-\u0e5b]|[\u0370-\u06ff\u0e01-\u0e5b][A-Za-z]")
NO_LETTERS = re.compile("[\x80-\x9f\ufffd]")  # control characters and undecodable bytes: the encoding is wrong
JAPANESE = b"\x1b$B"  # begins Japanese letters in ISO-2022-JP, whose bytes are ASCII
WESTERN = ("cp1252", "mac-roman")
# UTF-32's mark begins with UTF-16's, so the longer ones come first.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def known(coding: str) -> str:
    """The coding, if Python can decode it incrementally.

    Raises:
        ValueError: it can't; the message suggests the nearest one.
    """
    if coding == AUTO:
        return coding
    with suppress(LookupError, ValueError):
        with suppress(UnicodeError):
            b" ".decode(coding)  # LookupError if it isn't a text encoding (rot13, base64)
        if codecs.lookup(coding).name not in NO_FILES:
            codecs.getincrementaldecoder(coding)
            return coding
    near = meant(coding.lower(), COMMON)
    raise ValueError(f"unknown coding {coding!r}{near} (for example {', '.join(COMMON)}, or auto: detected)")


def _checked(coding: str) -> str:
    try:
        return known(coding)
    except ValueError as error:
        raise PydanticCustomError("coding", "{said}", {"said": str(error)}) from None


Coding = Annotated[str, AfterValidator(_checked)]  # a setting of text readers


def marked(beginning: bytes) -> tuple[bytes, str | None]:
    """(byte order mark, its encoding) at the beginning of a file, (b"", None) if there is none."""
    return next(((mark, coding) for mark, coding in MARKS if beginning.startswith(mark)), (b"", None))


def unmarked(beginning: bytes) -> str | None:
    """The encoding of UTF-16 text without a mark, which would look like text with NUL characters; None: it isn't
    UTF-16. Its blanks and line ends have a NUL byte next to them, all on the same side; without any, most letters
    have."""
    for coding, high, low in (
        ("utf-16-le", beginning[1::2], beginning[::2]),
        ("utf-16-be", beginning[::2], beginning[1::2]),
    ):
        blanks = [high[at : at + 1] for at, byte in enumerate(low) if byte in b" \n"] or [
            high[at : at + 1] for at in range(len(high))
        ]
        if b"\0" not in low and len(beginning) >= 4 and 2 * blanks.count(b"\0") > len(blanks):
            return coding
    return None


def detect(blocks: Iterable[bytes]) -> str | None:
    """The encoding of a text without a byte order mark: UTF-8 if all of it is, else chardet's likeliest web encoding
    for the lines that aren't ASCII; None if it finds none. Reads all blocks, keeps SAMPLE bytes.

    Raises:
        ValueError: most lines that aren't ASCII are UTF-8, and some aren't; the message lists them.
    """
    import chardet

    utf8 = codecs.getincrementaldecoder("utf-8")("strict")
    sample, rest, valid = b"", b"", True
    seen = 0  # lines
    good: list[int] = []  # numbers of the lines that are UTF-8 but not ASCII
    bad: list[int] = []  # numbers of the lines that aren't UTF-8
    for block in blocks:
        if JAPANESE in block and block.isascii():
            return "iso2022_jp"
        if not sample and b"\0" in block[:SAMPLE]:  # UTF-16 has no lines to look for
            return _named(chardet.detect(block[:SAMPLE])["encoding"])
        *lines, rest = (rest + block).split(b"\n")
        rest = rest[-SAMPLE:]
        for line in lines:
            seen += 1
            if not line.isascii():
                sample += (line[:SAMPLE] + b"\n") * (len(sample) < SAMPLE)
                (good if _is_utf8(line) else bad).append(seen)
            if len(bad) > len(good) and len(sample) >= SAMPLE:
                break
        try:
            utf8.decode(block)
        except UnicodeDecodeError:
            valid = False
        if not valid and len(bad) > len(good) and len(sample) >= SAMPLE:
            break
    try:
        utf8.decode(b"", True)
    except UnicodeDecodeError:
        valid = False
    if valid:
        return "utf-8"
    if not rest.isascii():
        (good if _is_utf8(rest) else bad).append(seen + 1)
    if len(good) > len(bad) > 0:
        shown = listed([f"{line:,}" for line in bad], NAMED)
        raise ValueError(f"most of it is UTF-8, but not line{'s' * (len(bad) > 1)} {shown}")
    era = chardet.EncodingEra.MODERN_WEB
    sample += b"" if rest.isascii() else rest
    found = _named(chardet.detect(sample, encoding_era=era)["encoding"])
    if not found:
        return None
    text = sample.decode(found, "replace")
    # no word mixes Latin letters with Greek, Cyrillic, Hebrew or Arabic ones: caf\xe9 isn't Russian. If encodings
    # decode the sample to the same text, the commonest one is the safest for the rest of the file
    if MIXED.search(text) or text == sample.decode("cp1252", "replace") or len(NO_LETTERS.findall(text)) > 1:
        return next((one for one in WESTERN if _western(sample.decode(one, "replace"))), None)
    return found


def _western(text: str) -> bool:
    """Whether a text may be of Western Europe: most of it is ASCII, and nothing is undecodable."""
    return len(NO_LETTERS.findall(text)) < 2 and 2 * sum(map(str.isascii, text)) > len(text)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _named(found: str | None) -> str | None:
    try:
        return known(found.lower()) if found else None
    except ValueError:
        return None
