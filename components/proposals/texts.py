"""Proposals for text files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from itertools import pairwise

from components.datasets.files.folders import ending
from components.datasets.labelled import names_as_labels, stem
from components.datasets.text.conll import BLANKS, DOCUMENT
from components.datasets.text.labelled_lines import LabelledLinesReader
from components.encodings.bases import IUPAC
from components.errors import UserError
from components.options import options_of
from components.proposals.base import Look, Proposal, Sample, Unlike, pair

SENTENCE = re.compile(r"[.!?…。！？][\"'”’)\]]*\s*$")
SPAN = re.compile(r"O|[BIESLU]-\S+")
LANGUAGE = re.compile(r"\.([a-z]{2}|src|tgt|source|target)")
OF_LINES = ("", ".txt", ".lst", ".list", ".text", ".csv")
FEW_NAMES = 5  # files whose names differ in a number, such as class0 and class1, that may be labels
FEW_BLANKS = 0.02
MANY_PAIRS, MANY_LINES = 5000, 1000
FEWEST_LINES, FEWEST_CHARACTERS = 3, 40  # train, val and test must not be empty


def read_as(sample_lines: list[str], items: int) -> dict:
    """The encoding of texts to classify: characters for up to three words, else words."""
    words = sum(len(line.split()) for line in sample_lines) / max(1, len(sample_lines))
    if words <= 3:  # also scripts without spaces
        return {"kind": "characters"}
    rare = {"min_count": 2} if items >= MANY_LINES else {}
    return {"kind": "tokens", **rare, "lowercase": True}


def text_like(encoding: dict) -> str:
    """The built-in recipe for classifying texts with this encoding."""
    return "names-by-language" if encoding["kind"] == "characters" else "sentiment"


def labelled_lines(look: Look) -> Proposal:
    if len(look.files) < 2:
        raise Unlike("a single file: labels are the names of files or folders")
    names, what = _by_names(look)
    if not 2 <= len(names) <= 100:
        raise Unlike(f"{len(names)} labels, from {what}")
    if not look.texts:
        raise Unlike("no text")
    lines = [line for _, sample in look.texts for line in sample.filled]
    longest = options_of(LabelledLinesReader)["max_length"][1]
    longer = max(map(len, lines), default=0) > longest
    encoding = read_as(lines, look.lines())
    listed = ", ".join(list(names)[:6]) + (", …" if len(names) > 6 else "")
    prose = any(_prose(sample) for _, sample in look.texts) or bool(set(look.endings) - set(OF_LINES))
    return Proposal(
        f"texts with a label: one per line, {len(names)} labels",
        f"the labels are {what}: {listed}",
        text_like(encoding),
        {"reader": "labelled-lines", **({"max_length": 20_000} if longer else {}), **look.coding()},
        pair(encoding, "labels"),
        {"kind": "classification"},
        look.lines(),
        likely=what.endswith(("folders", "endings")) or not (prose or _numbered(names)),
        notes=("each line is an item: write texts of several lines as one line",) * (len(look.files) > len(names)),
    )


def _numbered(names: Collection[str]) -> bool:
    """Whether names differ in a number only, as those of the parts of one text do."""
    without = {re.sub(r"\d+", "", name) for name in names}
    return len(names) > FEW_NAMES and len(without) == 1 and without != {""}


def _by_names(look: Look) -> tuple[Counter[str], str]:
    """Labels from the names of files, and which part of the names they are."""
    try:
        labels, what = names_as_labels(look.files, None)
    except UserError as error:
        raise Unlike(error.what) from None
    return Counter(labels.values()), what


def parallel(look: Look) -> Proposal:
    endings = sorted(look.endings)
    if len(endings) != 2:
        raise Unlike("not pairs of files with the same name and two endings, such as train.de and train.en")
    stems = [{stem(path) for path in look.files if ending(path) == one} for one in endings]
    counts = [sum(s.all_lines for path, s in look.texts if ending(path) == one) for one in endings]
    if stems[0] != stems[1] or not look.texts:
        raise Unlike(f"the names of the {endings[0]} and the {endings[1]} files differ")
    languages = all(LANGUAGE.fullmatch(one) for one in endings)
    source, target = (one[1:] for one in endings)
    if target in ("src", "source"):
        source, target = target, source
    many = look.lines() / 2 >= MANY_PAIRS
    words = pair({"kind": "words"}, "words")
    pieces = pair({"kind": "subwords", "merges": 6000, "lowercase": True}, "subwords", merges=4000, lowercase=True)
    return Proposal(
        f"texts and their translations, line by line: {source} to {target}",
        f"two files for each name, ending in {endings[0]} and {endings[1]}",
        "translation",
        {"reader": "parallel", "source": source, "target": target, **look.coding()},
        pieces if many else words,
        {"kind": "translation"},
        look.lines() // 2,
        likely=languages and 0.9 < (counts[0] + 1) / (counts[1] + 1) < 1.1,
        notes=("the other direction: change data.source and data.target",),
    )


def conll(look: Look) -> Proposal:
    _, sample = look.first()
    rows = [re.split(r"[ \t]+", line.strip(BLANKS)) for line in sample.filled if not line.startswith(("#", DOCUMENT))]
    widths = Counter(map(len, rows))
    width, count = widths.most_common(1)[0] if rows else (0, 0)
    blanks = [at for at, line in enumerate(sample.lines[:-1]) if not line.strip(BLANKS)]
    if width < 2 or width > 14 or count < 0.95 * len(rows) or not blanks:
        raise Unlike("not one word and its tags per line, with an empty line after each sentence")
    tags = Counter(row[-1] for row in rows if len(row) == width)
    universal = width == 10 and all(row[0].partition("-")[0].partition(".")[0].isdecimal() for row in rows)
    if universal:  # CoNLL-U: the words are numbered, and the fourth column is their part of speech
        tags = Counter(row[3] for row in rows if len(row) == width and row[0].isdecimal())
    if 2 * len(tags) > len(rows) or len(tags) > 200:
        raise Unlike("the last column isn't a tag: it rarely repeats")
    if len(tags) == 1:
        raise Unlike(f"the last column isn't a tag: it is always {next(iter(tags))}")
    spans = all(SPAN.fullmatch(tag) for tag in tags) and "O" in tags
    scheme = "iob" if spans else "none"
    settings = ({} if spans else {"scheme": "none"}) | ({"token_column": 2, "tag_column": 4} if universal else {})
    return Proposal(
        "words with a tag each (CoNLL)",
        f"{width} columns, empty lines between sentences, {len(tags)} tags such as {', '.join(list(tags)[:4])}",
        "entities",
        {"reader": "conll", **settings, **look.coding()},
        pair({"kind": "spelled"}, "labels"),
        {"kind": "tagging", "scheme": scheme},
        max(1, len(blanks)) * max(1, look.lines() // max(1, len(sample.filled))),
        model={"backend": None},  # available backends depend on the machine
        notes=("tags in another column: data.tag_column",),
    )


LABEL_IN = {"the files' names": "file", "the files' endings": "ending", "the names of their folders": "folder"}


def bases(look: Look) -> Proposal:
    _, sample = look.first()
    first = sample.filled[0] if sample.filled else ""
    settings: dict = {}
    if first.startswith((">", ";")):
        headers = [line[1:].split() for line in sample.filled if line.startswith(">")]
        runs = re.split(r"^>.*$", sample.text if sample.share == 1 else "\n".join(sample.lines), flags=re.MULTILINE)
        found = ["".join(run.split()) for run in runs[1:]]
        last = Counter(words[-1] for words in headers if len(words) > 1)
        repeat = 1 < len(last) <= sum(last.values()) / 2 and 2 * sum(last.values()) > len(headers)
        labels = last
        if not repeat and len(look.files) > 1:
            labels, what = _by_names(look)
            if what not in LABEL_IN:
                raise Unlike(f"the labels would be {what}: name each file after its label, such as donor.fa")
            settings["label_in"] = LABEL_IN[what]
        form, of_what = "FASTA", "of the headers" if "label_in" not in settings else "of the names"
    else:
        rows = [[cell.strip() for cell in line.split(",")] for line in sample.filled]
        if not rows or any(len(row) != 3 for row in rows):
            raise Unlike("neither FASTA nor lines of label, name and bases")
        labels, found = Counter(row[0] for row in rows), [row[2] for row in rows]
        form, of_what = "lines of label, name and bases", "of the lines"
    letters = set("".join(found).upper().replace("U", "T"))
    if not letters or letters - IUPAC.keys():
        wrong = ", ".join(sorted(letters - IUPAC.keys())[:5])
        raise Unlike(f"contains letters other than nucleotides: {wrong or 'none at all'} (for proteins use --as text)")
    if len(labels) < 2 or ("label_in" not in settings and 2 * len(labels) > sum(labels.values())):
        way = "add the label to the end of each header, or put the sequences of each label into a file of its name"
        raise Unlike(f"sequences of bases without labels: {way}")
    lengths = Counter(map(len, found))
    usual, count = lengths.most_common(1)[0]
    if count > 0.9 * len(found):
        settings["window"] = usual
    return Proposal(
        f"sequences of bases with a label ({form}), {len(labels)} labels",
        f"only letters of nucleotides; labels {of_what}: {', '.join(list(labels)[:6])}",
        "dna",
        {"reader": "bases", **settings, **look.coding()},
        pair({"kind": "bases", "waves": 8}, "labels"),
        {"kind": "classification"},
        len(found) * max(1, look.lines() // max(1, len(sample.filled))),
    )


def tokens(look: Look) -> Proposal:
    _, sample = look.first()
    if look.characters() < FEWEST_CHARACTERS:
        raise Unlike("too few characters to learn from")
    words = sample.text[:200_000].split()
    marks = sum(word == "<unk>" or re.fullmatch(r"@.@", word) is not None for word in words)
    return Proposal(
        "a text that is already split into tokens",
        f"{marks:,} of its first {len(words):,} words are <unk> or @-@" if marks else "tokens between blanks",
        "shakespeare-words",
        {"reader": "text", **look.coding()},
        {"kind": "whitespace"},
        {"kind": "language_model"},
        look.characters() // 5,
        likely=1000 * marks > len(words),
        generation={"prompt": _prompt(sample)},
    )


def lines(look: Look) -> Proposal:
    _, sample = look.first()
    found = sample.filled
    if look.lines() < FEWEST_LINES:
        raise Unlike("too few lines to learn from")
    words = sum(len(line.split()) for line in found) / len(found)
    mean = sum(map(len, found)) / len(found)
    sentences = sum(bool(SENTENCE.search(line)) for line in found) / len(found)
    items = not _prose(sample) and len(look.files) == 1 and ending(look.files[0]) in OF_LINES
    items &= words <= 2.5 or (sentences > 0.8 and len(found) > 2)
    longer = max(map(len, found)) > 1000
    marked = 2 * sum(line.startswith("__label__") for line in found) > len(found)
    return Proposal(
        f"a text on each line, about {look.lines():,} of {mean:.0f} characters",
        f"{'short lines' if words <= 2.5 else 'lines that end as sentences do' if sentences > 0.8 else 'lines'}",
        "names",
        {"reader": "lines", **({"max_length": 20_000} if longer else {}), **look.coding()},
        {"kind": "characters"},
        {"kind": "language_model"},
        look.lines(),
        likely=bool(items),
        generation={"max_length": min(1000, max(40, 2 * max(map(len, found[:200]))))},
        notes=("__label__ is read as text: to predict it, convert the lines to a table of text and label",) * marked,
    )


def text(look: Look) -> Proposal:
    _, sample = look.first()
    if look.characters() < FEWEST_CHARACTERS:
        raise Unlike("too few characters to learn from")
    files = f" in {len(look.files):,} files" if len(look.files) > 1 else ""
    return Proposal(
        f"a text of about {look.characters():,} characters{files}, to continue",
        "its lines don't look like separate items",
        "shakespeare-chars",
        {"reader": "text", **look.coding()},
        {"kind": "characters"},
        {"kind": "language_model"},
        look.characters(),
        model={"hidden_size": 256},  # the recipe's model takes more than ten minutes to train
        generation={"prompt": _prompt(sample)},
        notes=("for words instead of characters set encoding to {kind: words, min_count: 2}",),
    )


def _prompt(sample: Sample) -> str:
    """A prompt that occurs in the training text."""
    return "\n" if "\n" in sample.text.strip() else sample.text.strip()[:1]


def _prose(sample: Sample) -> bool:
    """Whether the lines are one continuous text: empty lines, repeated lines, or sentences across lines."""
    within = sample.text.strip("\n").split("\n")[: len(sample.lines)]
    blank = sum(not line.strip() for line in within) / max(1, len(within))
    found = sample.filled
    repeated = 2 * len(set(found)) < len(found)
    ended = sum(bool(SENTENCE.search(line)) for line in found) / max(1, len(found))
    wrapped = sum(not SENTENCE.search(a) and b[:1].islower() for a, b in pairwise(found)) / max(1, len(found))
    return blank > FEW_BLANKS or repeated or (0.05 < ended < 0.8 and wrapped > 0.2)
