"""A file can end the process that reads it, and nothing else: the next file is read as if nothing had been."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from components.datasets.files.sandbox import Limits, read_all
from components.errors import UserError

TESTS = Path(__file__).parents[2]
LIMITS = Limits(file_bytes=1000, cpu_seconds=0.5, wall_seconds=3.0, memory_bytes=200 << 20, answer_bytes=1_000_000)


@pytest.fixture
def outcomes(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))

    def run(*deeds: str, workers: int = 1, limits: Limits = LIMITS, **options) -> list:
        paths = []
        for index, deed in enumerate(deeds):
            paths.append(tmp_path / f"{index}.txt")
            paths[-1].write_bytes(deed.encode())
        found = list(read_all("reading_victims:read", paths, options, limits, workers))
        assert len(found) == len(deeds)
        return found

    return run


BAD = {
    "crash": "made the reading process crash (signal 11)",
    "spin": "takes longer than 0.5 s to read",
    "fill memory": "needs more than 200 MB of memory",
    "long answer": "gives more than 1,000,000 bytes of notes",
    "refuse": "isn't what it should be",
    "recurse": "is nested too deeply",
    "x" * 2000: "has more than 1,000 bytes",
    "": "is empty",
    "\0\0\0": "contains only zeros",
}


@pytest.mark.slow
def test_every_bad_file_is_named_and_the_good_around_it_are_read(outcomes) -> None:
    deeds = [deed for bad in BAD for deed in (f"good {bad[:5]}", bad)] + ["last"]
    found = outcomes(*deeds, workers=2, limits=replace(LIMITS, wall_seconds=60.0))  # for a busy machine
    for index, (deed, outcome) in enumerate(zip(deeds, found, strict=True)):
        assert outcome.reason == BAD.get(deed, ""), deed
        if deed not in BAD:
            assert outcome.value == [deed, f"{index}.txt"]


@pytest.mark.slow
def test_a_file_that_only_waits_is_given_up(outcomes) -> None:
    good, asleep, after = outcomes("good", "sleep", "after")
    assert (good.reason, after.reason) == ("", "")
    assert asleep.reason == "gave no answer for 3 s"


@pytest.mark.slow
def test_the_damage_of_an_earlier_file_is_not_blamed_on_a_later_one(outcomes) -> None:
    found = outcomes("good", "poison", "crash later", "after")
    assert [outcome.reason for outcome in found] == [""] * 4


@pytest.mark.slow
def test_nothing_is_written_and_what_a_parser_prints_is_no_answer(outcomes, tmp_path) -> None:
    filled, babble, after = outcomes("fill disk", "babble", "after", folder=str(tmp_path))
    assert "can't be parsed" in filled.reason
    assert (tmp_path / "filled").stat().st_size == 0
    assert babble.value[0] == "babble"
    assert after.value[0] == "after"


@pytest.mark.slow
def test_a_reason_is_one_printable_line(outcomes) -> None:
    (found,) = outcomes("raise")
    assert found.reason.startswith("can't be parsed: bad [31mbytes")
    assert found.reason.isprintable()
    assert len(found.reason) < 200


@pytest.mark.slow
def test_a_missing_file_and_a_folder_are_reasons(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    found = list(read_all("reading_victims:read", [tmp_path / "none", tmp_path], {}, LIMITS))
    assert [outcome.reason.partition(":")[0] for outcome in found] == ["can't be opened"] * 2


@pytest.mark.slow
def test_many_files_come_back_in_order(outcomes) -> None:
    deeds = [str(index) if index % 50 else "crash" for index in range(300)]
    found = outcomes(*deeds, workers=2)
    assert [outcome.value and outcome.value[0] for outcome in found] == [d if d != "crash" else None for d in deeds]


@pytest.mark.slow
def test_a_reader_that_cannot_start_is_one_error_not_one_per_file(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"can't be read: .*no_such_module"):
        list(read_all("no_such_module:read", [tmp_path / "a.txt"] * 3, {}, LIMITS))


@pytest.mark.slow
def test_leaving_early_ends_the_workers(outcomes, tmp_path, monkeypatch) -> None:
    import psutil

    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    (tmp_path / "a.txt").write_text("x")
    before = set(psutil.Process().children())  # other tests' servers
    reading = read_all("reading_victims:read", [tmp_path / "a.txt"] * 100, {}, LIMITS, 2)
    next(reading)
    assert set(psutil.Process().children()) - before
    reading.close()
    assert not set(psutil.Process().children()) - before


@pytest.mark.slow
@pytest.mark.parametrize("deed", ["sleep", "spin"])
def test_workers_end_with_the_process_that_started_them_even_when_it_is_killed(tmp_path, monkeypatch, deed) -> None:
    import psutil

    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    file = tmp_path / "a.txt"
    file.write_text(deed)
    script = (
        "import pathlib, sys; from components.datasets.files.sandbox import Limits, read_all\n"
        "limits = Limits(cpu_seconds=60, wall_seconds=60)\n"
        "list(read_all('reading_victims:read', [pathlib.Path(sys.argv[1])] * 600, {}, limits, 2))"
    )
    reading = subprocess.Popen([sys.executable, "-c", script, str(file)], cwd=TESTS.parent)
    try:
        parent, workers = psutil.Process(reading.pid), []
        while len(workers) < 2:
            workers = parent.children()
        time.sleep(0.5)  # so that they are at their file
    finally:
        reading.kill()
        reading.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for one in alive:
        one.kill()
    assert not alive


@pytest.mark.slow
def test_what_check_raises_ends_the_reading(tmp_path, monkeypatch) -> None:
    import psutil

    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    (tmp_path / "a.txt").write_text("sleep")
    before, asked = set(psutil.Process().children()), []

    def check() -> None:
        asked.append(time.monotonic())
        if len(asked) > 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(read_all("reading_victims:read", [tmp_path / "a.txt"], {}, LIMITS, 1, check))
    assert not set(psutil.Process().children()) - before


@pytest.mark.slow
def test_the_corpus_workers_end_with_their_parent_too() -> None:
    import psutil

    script = (
        "import concurrent.futures, multiprocessing, time\n"
        "from components.datasets.music.chorales import end_with_parent\n"
        "context = multiprocessing.get_context('spawn')\n"
        "pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent)\n"
        "pool.submit(time.sleep, 0).result(); print('ready', flush=True); pool.submit(time.sleep, 60).result()"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=TESTS.parent, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"ready\n"
        workers = psutil.Process(parent.pid).children()
        parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for one in alive:
        one.kill()
    assert workers
    assert not alive
