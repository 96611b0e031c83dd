"""Reading a folder of MIDI: our reader against music21's converter, on this machine.

    python -m benchmarks.reading FOLDER [--sample 20] [--repeats 5]

FOLDER holds .mid files, the 1,034 tunes of the Nottingham data set for the published figures. First both must find
the same notes in a sample of the files: the same pitches at the same steps. Then they take turns, so that a busy
machine slows both alike; where it is very busy only processor time means much, for ours runs in several processes.
Ours reads the whole folder, the start of its processes included, up to the `Score`s that encodings take; music21
parses a sample of the files, another one in each repeat, which is less work than ours. Then all the way: ours ingests
the folder into a packed store (split, encoded as `notes`, digested, written), music21 parses and its notes are taken
out and encoded. Ratios are medians over repeats of the times a file. symusic alone, without grid, roles or sandbox,
is timed too.
Writes results/reading.json beside this file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import symusic
from music21 import converter

from components.datasets.ingest import ingest
from components.datasets.music.reader import MusicReader
from components.encodings.notes import Notes
from components.score import Note, Part, Score

RESULTS = Path(__file__).parent / "results" / "reading.json"
STEPS = 12


def by_music21(path: Path) -> Counter[tuple[int, int]]:
    """(step, MIDI pitch) → how many notes begin there. music21 cuts long ones at bar lines and ties them."""
    found: Counter[tuple[int, int]] = Counter()
    for element in converter.parse(path, forceSource=True, quantizePost=False).flatten().notes:
        for note in getattr(element, "notes", (element,)):
            tie = note.tie or element.tie
            if tie is None or tie.type == "start":
                found[round(float(element.offset) * STEPS), note.pitch.midi] += 1
    return found


def by_ours(path: Path) -> Counter[tuple[int, int]]:
    """The same of our reader, before anything is taken out of the score."""
    (score,) = MusicReader([path], steps_per_beat=STEPS, min_notes=1).items()
    return Counter((note.start, note.pitch) for part in score.parts for note in part.notes)


def ingested(files: list[Path]) -> None:
    """The files as a packed store."""
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            os.symlink(path, Path(folder, path.name))
        data = {"path": folder, "reader": "music", "min_notes": 1, "steps_per_beat": STEPS}
        ingest(data, {"kind": "notes"}, root=Path(folder), cache_dir=Path(folder, "cache"), seed=0)


def ingested_by_music21(files: list[Path]) -> None:
    """The files' notes as music21 has them, encoded alike; neither split, digested nor written."""
    encoding = Notes(steps_per_beat=STEPS)
    for path in files:
        notes = (Note(step, 1, pitch) for step, pitch in sorted(by_music21(path)))
        encoding.encode(Score((Part("all", tuple(notes)),), STEPS))


def differing(paths: list[Path]) -> list[str]:
    """Files in which the two readers find other notes. What sounds twice at one place counts once."""
    return [path.name for path in paths if set(by_music21(path)) != set(by_ours(path))]


def seconds(run) -> tuple[float, float]:
    """By the clock, and of processor time, that of processes which have ended included."""
    clock, before = time.perf_counter(), sum(os.times()[:4])
    run()
    return time.perf_counter() - clock, sum(os.times()[:4]) - before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    files = sorted(given.folder.glob("*.mid"))
    if len(files) < given.sample:
        print(f"{given.folder} has {len(files)} .mid files, fewer than the sample of {given.sample}", file=sys.stderr)
        return 2
    order = random.Random(0).sample(files, len(files))
    wrong = differing(order[: given.sample])
    if wrong:
        print(f"not timed: other notes in {', '.join(wrong)}", file=sys.stderr)
        return 1
    ours, theirs, bare, whole, theirs_whole, kept = [], [], [], [], [], 0
    for repeat in range(given.repeats):
        sample = [order[(repeat * given.sample + i) % len(order)] for i in range(given.sample)]
        reader = MusicReader(files, min_notes=1)
        ours.append([t / len(files) * 1e3 for t in seconds(lambda r=reader: [None for _ in r.items()])])
        kept = sum(bool(row["read"]) for row in reader.report)
        parse = seconds(lambda s=sample: [converter.parse(path, forceSource=True) for path in s])
        theirs.append([t / given.sample * 1e3 for t in parse])
        bare.append([t / len(files) * 1e3 for t in seconds(lambda: [symusic.Score(path) for path in files])])
        whole.append([t / len(files) * 1e3 for t in seconds(lambda: ingested(files))])
        theirs_whole.append([t / given.sample * 1e3 for t in seconds(lambda s=sample: ingested_by_music21(s))])
        last = (ours[-1], theirs[-1], bare[-1], whole[-1], theirs_whole[-1])
        shown = (f"{clock:.2f} ms ({cpu:.2f} ms CPU)" for clock, cpu in last)
        print(f"{repeat}: a file, ours {{}}, music21 {{}}, symusic alone {{}}; ingested {{}}, {{}}".format(*shown))
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"platform": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "load_average": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("symusic", "music21", "numpy")},
        "files": len(files),
        "pieces": kept,
        "verified_files": given.sample,
    }
    for column, kind in enumerate(("clock", "processor")):
        times = {
            "ours": ours,
            "music21": theirs,
            "symusic_alone": bare,
            "ours_ingested": whole,
            "music21_ingested": theirs_whole,
        }
        result[kind] = {f"{name}_ms_per_file": [round(row[column], 3) for row in rows] for name, rows in times.items()}
        ratios = [b[column] / a[column] for a, b in zip(ours, theirs, strict=True)]
        result[kind] |= {"ratio_median": round(statistics.median(ratios), 1), "ratios": [round(r, 1) for r in ratios]}
        ratios = [b[column] / a[column] for a, b in zip(whole, theirs_whole, strict=True)]
        result[kind]["ingested_ratio_median"] = round(statistics.median(ratios), 1)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    medians = [result["clock"][name] for name in ("ratio_median", "ingested_ratio_median")]
    medians += [result["processor"][name] for name in ("ratio_median", "ingested_ratio_median")]
    print(f"{kept} pieces of {len(files)} files; music21's time / ours, read and ingested:", end=" ")
    print("{} {} by the clock, {} {} CPU".format(*medians))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
