"""What was appended reaches the store: in order, whole, whatever happens to store or writer, and nobody waits."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.tracking import spool
from components.tracking.spool import Entry, Journal, Refused, Sender, summary

RUN = "a" * 32


def points(count: int, start: int = 0) -> list[Entry]:
    return [{"metric": ["loss", 0.5, step, 1000]} for step in range(start, start + count)]


def die(journal: Journal) -> None:
    """What the end of a process does to its journal."""
    journal._lock.release()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.create(tmp_path, RUN)
    yield journal
    journal.close()


class Store:
    """Takes batches, after raising as often as it is told to."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.failures, self.error = failures, error or ConnectionError("no store")
        self.got: list[Entry] = []
        self.batches: list[int] = []

    def __call__(self, folder: Path, entries: list[Entry]) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error
        self.got += entries
        self.batches.append(len(entries))


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(["metric", "tag"]), max_size=30),
    st.lists(st.sampled_from(["taken", "refused", "taken but never heard of"]), max_size=20),
)
def test_every_entry_arrives_in_order_through_any_failures(kinds: list[str], fates: list[str]) -> None:
    entries: list[Entry] = [{kind: [number]} for number, kind in enumerate(kinds)]
    got: dict[int, Entry] = {}  # a store that keeps one of equals, as MLflow's does

    def deliver(folder: Path, batch: list[Entry]) -> None:
        fate = fates.pop() if fates else "taken"
        if fate != "refused":
            got.update({next(iter(entry.values()))[0]: entry for entry in batch})
        if fate != "taken":
            raise ConnectionError

    with tempfile.TemporaryDirectory() as root:
        journal = Journal.create(Path(root), RUN)
        for entry in entries:
            journal.append([entry])
        while journal.pending:
            with contextlib.suppress(ConnectionError):
                journal.send(deliver)
        journal.close()
        assert list(got.values()) == entries
        assert list(Path(root).iterdir()) == []


def test_batches_hold_one_kind_and_at_most_what_a_request_takes(journal: Journal) -> None:
    store = Store()
    journal.append([*points(2500), {"tag": ["a", "b"]}, *points(1), {"finish": ["FINISHED", 1]}])
    journal.send(store)
    assert store.batches == [1000, 1000, 500, 1, 1, 1]


def test_a_stuck_store_blocks_no_caller(journal: Journal) -> None:
    entered, stuck = threading.Event(), threading.Event()
    store = Store()

    def deliver(folder: Path, entries: list[Entry]) -> None:
        entered.set()
        stuck.wait(20)
        store(folder, entries)

    sender = Sender(journal, deliver)
    journal.append(points(1))
    sender.flush(0.0)
    assert entered.wait(10)
    start = time.monotonic()
    for step in range(500):
        journal.append(points(1, step))
    assert sender.flush(0.2) == 501
    assert sender.close(0.2) == 501
    assert time.monotonic() - start < 5
    stuck.set()
    sender._thread.join(10)
    assert store.batches == [1]  # it was closing: the rest waits for the next process


def test_trouble_that_ends_loses_nothing_and_repeats_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spool, "INTERVAL_SECONDS", 0.01)
    store = Store(failures=4)
    sender = Sender(journal, store)
    for step in range(50):
        journal.append(points(1, step))
    assert sender.flush(10) == 0
    assert store.got == points(50)
    assert sender.close(1) == 0
    assert [record.message.partition(": ")[2][:24] for record in caplog.records] == [
        "the store doesn't answer",
        "the store answers again;",
    ]


def test_a_refusal_is_final_for_this_process_and_keeps_the_journal(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RUN)
    store = Store(failures=99, error=Refused("run is deleted"))
    sender = Sender(journal, store)
    journal.append(points(3))
    start = time.monotonic()
    assert sender.flush(30) == 3
    journal.append(points(1))
    assert sender.close(30) == 4
    assert time.monotonic() - start < 10
    assert store.failures == 98
    (left,) = Journal.leftovers(tmp_path)
    assert left.pending == 4


KILLED = """
import sys
from pathlib import Path
from components.tracking.spool import Journal
journal = Journal.create(Path(sys.argv[1]), "a" * 32)
for step in range(10**6):
    journal.append([{"metric": ["loss", 0.5, step, 1000]}])
    print(step, flush=True)
"""


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert writer.stdout
    acknowledged = [int(writer.stdout.readline()) for _ in range(200)]
    assert not list(Journal.leftovers(tmp_path))  # it lives: hands off
    writer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
    writer.wait()
    store = Store()
    for left in Journal.leftovers(tmp_path):
        left.send(store)
    assert len(store.got) >= len(acknowledged) >= 200
    assert store.got == points(len(store.got))
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    first = Journal.create(tmp_path, RUN)
    first.append(points(1500))
    half = Store()

    def only_one_batch(folder: Path, entries: list[Entry]) -> None:
        if half.batches:
            raise ConnectionError
        half(folder, entries)

    with pytest.raises(ConnectionError):
        first.send(only_one_batch)
    die(first)
    rest = Store()
    for left in Journal.leftovers(tmp_path, RUN):
        assert left.pending == 500
        left.send(rest)
    assert half.got + rest.got == points(1500)


def test_leftovers_of_one_run_leave_the_others_alone(tmp_path: Path) -> None:
    for run in (RUN, "b" * 32):
        journal = Journal.create(tmp_path, run)
        journal.append(points(1))
        die(journal)
    assert [left.run_id for left in Journal.leftovers(tmp_path, "b" * 32)] == ["b" * 32]


def test_a_dead_writers_run_is_alive_while_another_writes_it(tmp_path: Path) -> None:
    dead, living = Journal.create(tmp_path, RUN), Journal.create(tmp_path, RUN)
    dead.append(points(1))
    die(dead)
    (left,) = list(Journal.leftovers(tmp_path))
    assert left.folder == dead.folder
    assert left.has_living_sibling()
    living.close()
    assert not left.has_living_sibling()


def test_a_torn_last_line_was_never_acknowledged_and_harms_nothing(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RUN)
    journal.append(points(2))
    with (journal.folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"metric": ["lo')
    die(journal)
    store = Store()
    for left in Journal.leftovers(tmp_path):
        assert left.pending == 2
        left.send(store)
    assert store.got == points(2)


def test_a_spoilt_line_does_not_dam_up_what_follows(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RUN)
    journal.append(points(1))
    with (journal.folder / "journal.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n")
    journal.append(points(1, 1))
    store = Store()
    journal.send(store)
    assert (store.got, journal.pending) == (points(2), 0)
    journal.close()


def test_a_full_disk_is_an_error_and_leaves_no_half_line(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    class HalfFull:
        def __init__(self, file) -> None:
            self.file = file

        def write(self, data: bytes) -> int:
            return self.file.write(data[: len(data) // 2])

        def __getattr__(self, name: str):
            return getattr(self.file, name)

    journal.append(points(1))
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_file", HalfFull(journal._file))
        with pytest.raises(OSError, match="no space"):
            journal.append(points(1, 1))
    journal.append(points(1, 1))
    store = Store()
    journal.send(store)
    assert store.got == points(2)


def test_kept_files_are_copies_and_go_when_they_are_sent(journal: Journal, tmp_path: Path) -> None:
    source = tmp_path / "report.md"
    source.write_text("first")
    kept = journal.keep_file(source)
    source.write_text("second")
    journal.append([{"file": [kept, "reports"]}])
    seen = []
    journal.send(lambda folder, entries: seen.append((folder / entries[0]["file"][0]).read_text()))
    assert seen == ["first"]
    assert list((journal.folder / "files").iterdir()) == []


def test_a_summary_shows_no_password() -> None:
    assert "secret" not in summary(RuntimeError("POST http://me:secret@host/api failed\nmore"))
