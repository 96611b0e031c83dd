"""Word vectors from a text file: a word and its numbers in each line, separated by single spaces.

This is GloVe's format; fastText and word2vec have a line before: the number of words and the size of their vectors. The
file may be gzipped or in a .zip archive: glove.6B.zip/glove.6B.100d.txt names it as if that were a folder.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from components.datasets.files.cells import lines
from components.datasets.files.text import BLOCK, EXPANSION, SMALL, TextFiles
from components.encodings.base import Encoding
from components.encodings.vocabulary import SPECIALS, Vocabulary
from components.errors import UserError

LONGEST_NUMBER = 32  # characters
LISTED = 8  # files of an archive, in a message
MISSING = (
    "download GloVe's vectors, which are free, from https://nlp.stanford.edu/data/glove.6B.zip (862 MB), "
    "or set model.vectors to your own file"
)
WANTED = "each line must be a word and its numbers, separated by single spaces"
LARGEST = 1e4  # the largest number in a vector: published ones are below 100


def read_vectors(path: Path, vocabulary: Vocabulary, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids int64 [N] of the tokens with a vector in the file, and their vectors, float32 [N, size].

    A token has the vector of its spelling, without white space around it, or else of its lowercase spelling. Only these
    are kept, so a file may be larger than memory. gzip is decompressed; if a word is repeated, its first vector is
    used.

    Raises:
        UserError: the format or the vectors' size is wrong, a number is invalid, or no token has a vector.
    """
    exact, lower = defaultdict(list), defaultdict(list)
    for id, token in enumerate(vocabulary.tokens[len(SPECIALS) :], len(SPECIALS)):
        if word := token.strip():
            exact[word].append(id)
            lower[word.lower()].append(id)
    own: dict[int, np.ndarray] = {}
    lowered: dict[int, np.ndarray] = {}
    for number, line in _lines(path):
        where = f"{path}: line {number}"
        word, _, rest = line.rstrip().partition(" ")
        if number == 1:
            heading = _heading(line)
            found = heading or len(rest.split())
            if found != size:
                what = f"its vectors have {found:,} numbers, but the model's embedding has {size:,}"
                raise UserError(what, where=where, hint=f"set model.embedding_size: {found}" if found else None)
            if heading:
                continue
        if len(rest) > size * LONGEST_NUMBER:
            raise UserError(f"the line is too long for {size:,} numbers: {len(rest):,} characters", where=where)
        if word in exact or word in lower:
            cells = rest.split()
            if len(cells) < size:
                raise UserError(
                    f"{len(cells):,} numbers instead of {size:,}", where=where, hint="the file is incomplete"
                )
            if len(cells) > size:
                continue  # a word with a space, which isn't in the vocabulary
            vector = _numbers(cells, where)
            for id in exact.get(word, ()):
                own.setdefault(id, vector)
            for id in lower.get(word, ()):
                lowered.setdefault(id, vector)
    chosen = lowered | own
    if not chosen:
        hint = "the file must be in the language of the data, and the encoding's tokens must be words"
        raise UserError(f"none of the {len(vocabulary):,} tokens has a vector", where=str(path), hint=hint)
    return np.fromiter(chosen, dtype=np.int64), np.stack(list(chosen.values()))


def first_words(path: Path, count: int) -> list[str]:
    """The first `count` words of such a file, in its order.

    Raises:
        UserError: it can't be read, or a line has no number after its word.
    """
    words: list[str] = []
    for number, line in _lines(path):
        word, _, rest = line.rstrip().partition(" ")
        if number == 1 and _heading(line):
            continue
        if not rest:
            raise UserError("no numbers after the word", where=f"{path}: line {number}", hint=WANTED)
        words.append(word)
        if len(words) == count:
            break
    return words


def give_words(encoding: Encoding, file: str | None) -> list[str]:
    """Give an encoding with `known_words` the file's words, before it is fitted. Raises as `first_words`."""
    reading = getattr(encoding, "input", encoding)
    if file and reading.known_words:
        reading.vectors_words = first_words(Path(file), reading.known_words)
    return list(reading.vectors_words)


def _heading(line: str) -> int:
    """The size of the vectors, if the first line is a heading; else 0."""
    counts = line.split()
    return int(counts[1][:9]) if len(counts) == 2 and all(count.isdecimal() for count in counts) else 0


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of a file of vectors, compressed or not."""
    return lines(_Packed(errors="replace", max_bytes=None, dropped=Counter()), path)


class _Packed(TextFiles):
    """Text files, including those in a .zip archive that is part of the path."""

    def unpacked(self, path: Path) -> Iterator[bytes]:
        archive = next((place for place in (path, *path.parents) if place.suffix.lower() == ".zip"), path)
        if not archive.exists():
            raise UserError("no such file", where=f"model.vectors: {archive}", hint=MISSING)
        if not zipfile.is_zipfile(archive):
            yield from super().unpacked(path)
            return
        try:
            with zipfile.ZipFile(archive) as packed:
                info = _member(packed, archive, path)
                limit, total = max(SMALL, EXPANSION * info.compress_size), 0
                with packed.open(info) as source:
                    while block := source.read(BLOCK):
                        total += len(block)
                        if total > limit:
                            what = f"{info.compress_size:,} packed bytes expand to more than {limit:,}"
                            raise UserError(what, where=str(path), hint="if you trust it, unpack it yourself")
                        yield block
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            hint = "it is incomplete, encrypted or not a .zip: download it again, or unpack it yourself"
            raise UserError(f"the archive is damaged: {error}", where=str(archive), hint=hint) from error
        except OSError as error:
            raise UserError(f"can't be read: {error.strerror or error}", where=str(archive)) from error


def _member(packed: zipfile.ZipFile, archive: Path, path: Path) -> zipfile.ZipInfo:
    """The file in an archive that the path names; the only one if it names none."""
    files = {info.filename: info for info in packed.infolist() if not info.is_dir()}
    name = path.relative_to(archive).as_posix()
    if name in files:
        return files[name]
    if name == "." and len(files) == 1:
        return next(iter(files.values()))
    listed = ", ".join(f"{archive.name}/{file}" for file in list(files)[:LISTED])
    what = f"contains no {name}" if name != "." else f"contains {len(files):,} files"
    raise UserError(what, where=str(archive), hint=f"choose one: {listed}" if files else None)


def _numbers(cells: list[str], where: str) -> np.ndarray:
    try:
        vector = np.array(cells, dtype=np.float32)
    except ValueError as error:
        raise UserError(f"isn't a vector: {str(error)[:100]}", where=where) from None
    if not (np.abs(vector) <= LARGEST).all():
        raise UserError(f"a number is NaN, infinite or larger than {LARGEST:g}", where=where)
    return vector
