"""From a folder to a corpus: what is written, kept, resumed and refused."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragdro.config.retriever import parse_settings
from ragdro.data import read_corpus
from ragdro.data.convert import convert
from ragdro.ingest import Ingested, IngestSettings, ingest, work
from ragdro.retrieval.cache import cached_candidates
from ragdro.types import Passage, PassageSource, Question

ONE_JOB = IngestSettings(jobs=1)


def passages(out: Path) -> list[Passage]:
    return list(read_corpus(out))


def run(folder: Path, out: Path, **changes: object) -> Ingested:
    return ingest([folder], out, IngestSettings(jobs=1, **changes))  # type: ignore[arg-type]


def test_the_corpus_is_read_indexed_and_found_with_its_sources(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus.jsonl"
    done = run(folder, out)
    written = passages(out)
    assert (done.files, done.bad, done.passages) == (6, [], len(written))
    assert len({p.id for p in written}) == len(written)
    asked = [Question("q1", "Which bridge is long in Wels?", ()), Question("q2", "clock of Graz", ())]
    settings = parse_settings({"kind": "bm25"})
    best = [c.passages[0] for c in cached_candidates(asked, out, settings, 2, tmp_path / "cache")]
    assert [p.title for p in best] == ["Bridges > Wels", "Graz"]
    text = "# Bridges\n\n## Wels\n\nThe bridge of Wels is long.\n"
    assert best[0].source == PassageSource("sub/b.md", 0, len(text))
    assert best[1].source == PassageSource("f.csv", 0, len("The clock of Graz is loud."), row=1)
    assert str(best[1].source) == "f.csv, row 1"


def test_own_format_keeps_sources_through_conversion_and_ignores_others(folder: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "corpus.jsonl", tmp_path / "again.jsonl.gz"
    run(folder, out)
    convert(out, again)
    assert passages(again) == passages(out)
    line = {"id": "1", "title": "t", "text": "x"}
    for other in ("wikipedia", {"url": "x"}, {"path": "x", "start": "0", "end": 1}, 3, ["a"]):
        out.write_text(json.dumps({**line, "source": other}) + "\n")
        assert passages(out) == [Passage("1", "t", "x")]


def test_pages_slides_and_rows(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "c.jsonl", tokens=6)
    places = {p.text.strip(): str(p.source) for p in passages(tmp_path / "c.jsonl")}
    assert places["The port of Enns is old."] == "c.pdf, page 1"
    assert places["The port of Krems is new."] == "c.pdf, page 2"
    assert places["left | right\n\ngrouped"] == "e.pptx, slide 3"


def test_other_files_change_no_id_and_no_line(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    run(folder, first)
    (folder / "aa.txt").write_text("The tower of Melk is red.\n\nThe tower of Linz is blue.\n")
    (folder / "0.txt").write_text("New.")
    run(folder, second)
    assert set(first.read_text().splitlines()) < set(second.read_text().splitlines())
    assert len({p.id for p in passages(second)}) == len(passages(second))


def test_jobs_give_the_same_corpus(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "1.jsonl")
    ingest([folder], tmp_path / "2.jsonl", IngestSettings(jobs=2))
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_only_what_changed_is_read_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus.jsonl"
    assert run(folder, out).reused == 0
    before = out.read_bytes()
    assert run(folder, out).reused == 6
    assert out.read_bytes() == before
    (folder / "a.txt").write_text("Changed.")
    (folder / "f.csv").unlink()
    done = run(folder, out)
    assert (done.files, done.reused) == (5, 4)
    assert run(folder, out, tokens=7).reused == 0
    entries = list((tmp_path / "corpus.jsonl.cache").rglob("*.zst"))
    assert len(entries) == 5  # what no run needs is gone
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])  # as after a power failure
    assert run(folder, out, tokens=7).reused == 0


def test_a_killed_run_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, whole = tmp_path / "corpus.jsonl", tmp_path / "whole.jsonl"
    run(folder, whole)
    real = work.FileWorker.process

    def stops(self: work.FileWorker, file: work.InputFile) -> work.FileResult:
        if file.name == "d.docx":
            raise KeyboardInterrupt
        return real(self, file)

    monkeypatch.setattr(work.FileWorker, "process", stops)
    with pytest.raises(KeyboardInterrupt):
        run(folder, out)
    monkeypatch.undo()
    assert not out.exists()
    (tmp_path / "corpus.jsonl.cache/.corpus.tmp").write_text("half")
    assert run(folder, out).reused == 2  # a.txt and c.pdf come before d.docx
    assert out.read_bytes() == whole.read_bytes()
    assert not list((tmp_path / "corpus.jsonl.cache").rglob("*.tmp"))


def test_a_kill_takes_the_workers_along_and_the_next_run_goes_on(tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(400):
        (many / f"{number}.txt").write_text(f"text {number} " * 300)
    out = tmp_path / "corpus.jsonl"
    command = [sys.executable, "-m", "ragdro", "ingest", str(many), "--out", str(out), "--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)  # the pipe closes with the last process
    while len(list(out.with_name("corpus.jsonl.cache").glob("*/*.zst"))) < 20:
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "passages from 400 files (" in done.stdout
    assert len(passages(out)) >= 400


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 75, "stopped by SIGTERM")],
)
def test_a_stopped_run_says_the_command_that_goes_on(
    number: signal.Signals, code: int, said: str, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "corpus.jsonl"
    stop = "import os, signal, sys, ragdro.cli, ragdro.ingest.run as run\n"
    stop += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job ignores it
    stop += f"run._write = lambda *given: os.kill(os.getpid(), {int(number)})\n"
    arguments = ["ingest", str(folder), "--out", str(out), "--jobs", "1"]
    command = [sys.executable, "-c", f"{stop}ragdro.cli.main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    again = shlex.join(["ragdro", *arguments])
    assert (done.returncode, last) == (code, f"ragdro: error: {said}; resume with: {again}")
    assert not out.exists() and run(folder, out).reused == 6


def test_links(folder: Path, tmp_path: Path) -> None:
    plain = run(folder, tmp_path / "1.jsonl")
    (folder / "loop").symlink_to(folder)
    (folder / "0-again.txt").symlink_to(folder / "a.txt")
    (folder / "dead.txt").symlink_to("nowhere")
    (folder / "self.txt").symlink_to("self.txt")
    done = run(folder, tmp_path / "2.jsonl")
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()
    assert done.passages == plain.passages
    assert [name for name, reason in done.bad if "leads nowhere" in reason] == ["dead.txt", "self.txt"]
    assert len(done.left_aside) == 2


def test_rows_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table's passages are written while it is read: no more than one row is held."""
    path, read = tmp_path / "rows.jsonl", []
    path.write_text("".join(json.dumps({"text": f"row {i}"}) + "\n" for i in range(5000)))
    real, written = work.passage_object, []

    def watched(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        for line in lines:
            read.append(line)
            yield line

    def counted(passage: Passage) -> dict[str, object]:
        written.append(len(read))
        return real(passage)

    from ragdro.data import stream
    from ragdro.ingest import rows

    monkeypatch.setattr(rows, "lines", lambda path: watched(stream.lines(path)))
    monkeypatch.setattr(work, "passage_object", counted)
    ingest([path], tmp_path / "out.jsonl", ONE_JOB)
    assert written == list(range(101, 5101))  # a hundred are looked at before, for the names of columns


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, ragdro.ingest; print(sorted({'torch', 'transformers', 'pypdf', 'docx', 'pptx', "
    code += "'selectolax', 'pyarrow', 'markdown_it', 'lxml', 'charset_normalizer'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
