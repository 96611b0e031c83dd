"""Warnings about text that can be decoded: it isn't text, was decoded wrongly before, or has invisible characters."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

BEGINNINGS = {  # signatures of files that aren't plain text, though they may be decodable
    b"%PDF-": "a PDF file",
    rb"{\rtf": "an RTF file",
    b"PK\x03\x04": "a ZIP archive (or a file of Word or Excel)",
    b"\xd0\xcf\x11\xe0": "a file of old Word or Excel",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xfd7zXZ": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"SQLite format 3\0": "a database",
    b"PAR1": "a Parquet file",
    b"BZh": "packed by bzip2",
    b"\x1f\x8b": "packed by gzip more than once",
    b"\x04\x22\x4d\x18": "packed by LZ4",
    b"\x89HDF\r\n": "an HDF5 file",
    b"ARROW1": "an Arrow or Feather file",
    b"\x93NUMPY": "a NumPy file",
    b"<stata_dta>": "a Stata file",
    b"$FL2@(#)": "an SPSS file",
    b"\x89PNG\r\n": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
}
CONTROL = "control character (a sign of a wrong data.coding)"
UNSEEN = {
    "\u00ad": "soft hyphen",
    "\u200b": "zero-width space",
    "\u2060": "word joiner",
    "\x1b": "escape character, as before terminal colours",
    **dict.fromkeys(map(chr, range(0x80, 0xA0)), CONTROL),
    **dict.fromkeys("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", "mark of direction"),
}
GROUPS = dict.fromkeys(UNSEEN.values(), "unseen")
LOST = "\ufffd"
# é, ° or ’ in UTF-8: two or three bytes, each decoded as Latin-1 or Windows-1252
GARBLED = re.compile("[ÂÃ][\u0080-\u00bf]|â€[\u2122\u0153\u009d\u201c\u201d\u02dc\u00a6]")
ENTITY = re.compile(
    r"&(?:amp|quot|apos|lt|gt|nbsp|szlig|[a-z](?:uml|acute|grave|circ|cedil|tilde|ring)|#x?\d{2,5});", re.I
)
ENTITIES = "sign of HTML such as &amp;"
UTF7 = re.compile(r"\+([A-Za-z0-9/]{3,})")
FEW = 3  # minimum number of such pairs: another language may have some
PAGE = "web page"
OF_PAGE = "a web page (HTML), whose tags are read as text: save it as plain text"
_PAGE = re.compile(r"\s*(<!doctype\s+html|<html\b)", re.IGNORECASE)  # the beginning of a web page
GUTENBERG = "*** START OF TH"
# the beginnings of texts in formats with signs and numbers that aren't text
FORMATS = {
    "subtitles, with numbers and times": re.compile(
        r"\s*(WEBVTT\b|\d+\s*\n\d\d:\d\d:\d\d[,.]\d{3} --> |(\[[a-z]+:.*\]\s*)*\[\d\d:\d\d[.:]\d\d\d?\])"
    ),
    "messages of gettext (PO)": re.compile(r'\s*(#.*\n\s*)*(msgctxt ".*\n)?msgid "'),
    "JSON": re.compile(r'\s*(\[\s*)?\{\s*"[^"\n]*"\s*:'),
    "XML": re.compile(r"\s*<\?xml\b"),
    "FASTQ": re.compile(r"@\S.*\n[A-Za-z.*-]+\n\+.*\n"),
    "sequences as GenBank or EMBL write them": re.compile(r"\s*(LOCUS {3,}\S+ +.*\n|ID {3}\S+; .*\n)"),
    "a calendar or an address book": re.compile(r"\s*BEGIN:V(CALENDAR|CARD)\b"),
    "lines with labels as fastText writes them": re.compile(r"__label__\S+[ \t]"),
    "annotations of brat": re.compile(r"[TREAMN*#]\d*\t\S+ \d+ \d+.*\n"),
}
BEGINNING = 4000  # characters that show a format


def not_text(beginning: bytes) -> str:
    """The type of a file that isn't plain text, by its first bytes; "" if unknown."""
    return next((what for sign, what in BEGINNINGS.items() if beginning.startswith(sign)), "")


def web_page(path: Path, beginning: str) -> bool:
    """Whether a file is a web page, but not named as one: then its tags may not be wanted."""
    named = any(suffix.lower() in (".html", ".htm", ".xhtml") for suffix in path.suffixes)
    return not named and _PAGE.match(beginning) is not None


def written_as(beginning: str) -> str:
    """The format of a text whose signs may not be wanted as text; "" for plain text."""
    return next((name for name, form in FORMATS.items() if form.match(beginning[:BEGINNING])), "")


def _is_utf7(coded: str) -> bool:
    """Whether AOk, between + and -, stands for letters as of French, Greek or Arabic."""
    try:
        letters = f"+{coded}-".encode().decode("utf-7")
    except UnicodeDecodeError:
        return False
    return all(letter.isalpha() and "\x7f" < letter < "\u0700" for letter in letters)


class TextDoubts:
    """Warnings about the files of a reader, each counted once even if it is read again. The work for a file doesn't
    depend on the number of files, of which there may be 100,000. `plain`: the reader takes all of a file as text."""

    def __init__(self, plain: bool = False) -> None:
        self.plain = plain
        self._seen: dict[Path, Counter[str]] = {}  # of the files with doubts
        self._total: Counter[str] = Counter()
        self._files: dict[str, dict[Path, None]] = {}  # doubt → its files, in order
        self._unbegun: set[Path] = set()  # files of which no block was seen
        self._told: list[str] = []

    def begin(self, path: Path) -> None:
        for name, count in self._seen.pop(path, {}).items():
            self._total[name] -= count
        self._unbegun.add(path)

    def look(self, path: Path, text: str) -> None:
        """Check the next block of the file."""
        found: Counter[str] = Counter()
        if path in self._unbegun:
            self._unbegun.discard(path)
            found[PAGE] += web_page(path, text)
            if self.plain and (form := written_as(text)):
                found[form] += 1
        found[GUTENBERG] += GUTENBERG in text
        found[ENTITIES] += len(ENTITY.findall(text)) if "&" in text else 0
        found["utf-7"] += sum(map(_is_utf7, UTF7.findall(text))) if "+" in text and text.isascii() else 0
        if not text.isascii() or "\x1b" in text:
            found[LOST] += text.count(LOST)
            for sign, name in UNSEEN.items():
                if sign in text:
                    found[name] += text.count(sign)
            if pairs := len(GARBLED.findall(text)):
                found["garbled"] += pairs
                found["others"] += sum(not sign.isascii() for sign in GARBLED.sub("", text))
        if found := +found:  # without zeros
            self._seen.setdefault(path, Counter()).update(found)
            self._total.update(found)
            for name in found:
                self._files.setdefault(GROUPS.get(name, name), {})[path] = None

    def tell(self, notes: list[str]) -> None:
        """Put the warnings about all files into `notes`, replacing earlier ones."""
        seen, told = self._total, []
        garbled = seen["garbled"] >= FEW and seen["garbled"] > seen["others"]
        names = [name for name in GROUPS if seen[name] > 0 and not (garbled and name == CONTROL)]
        if unseen := [f"{seen[name]:,} × {name}" for name in names]:
            what = "they are kept, so a word with one differs from the word without"
            told.append(f"invisible characters in {self._first('unseen')}: {', '.join(unseen)}; {what}")
        if seen[LOST]:
            told.append(f"{seen[LOST]:,} × U+FFFD, which replaces undecodable letters: {self._first(LOST)}")
        if garbled:
            what = "seems to be UTF-8 that was read as Latin-1 and saved again (Ã© instead of é)"
            told.append(f"warning: {self._first('garbled')} {what}, {seen['garbled']:,} times")
        if seen["utf-7"] >= FEW:
            what = "seems to be UTF-7, in which +AOk- is é: set data.coding=utf-7"
            told.append(f"warning: {self._first('utf-7')} {what}")
        if seen[ENTITIES] >= FEW:
            what = f"{seen[ENTITIES]:,} × {ENTITIES}, read as it is: decode them first (html.unescape)"
            told.append(f"{self._first(ENTITIES)}: {what}")
        if seen[PAGE]:
            told.append(f"warning: {self._first(PAGE)}: {OF_PAGE}")
        for form in FORMATS:
            if seen[form]:
                told.append(f"warning: {self._first(form)}: {form}, all signs of which are read: keep only the text")
        if seen[GUTENBERG]:
            what = (
                "the text contains Project Gutenberg's preface and licence, and test is taken from its end: delete them"
            )
            told.append(f"warning: {self._first(GUTENBERG)}: {what}")
        if told != self._told or not set(told) <= set(notes[-len(told) :]):
            notes[:] = [note for note in notes if note not in {*self._told, *told}] + told
            self._told = told

    def _first(self, group: str) -> str:
        """The first file with one of these problems."""
        found = self._files[group]
        first = next(iter(found)).name
        return first + (f" and {len(found) - 1:,} more files" if len(found) > 1 else "")
