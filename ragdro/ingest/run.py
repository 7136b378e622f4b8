"""A folder of documents → a corpus in our own JSONL: `ragdro ingest`.

The output is whole or absent. What is done of it is kept beside it, in `<output>.cache/`, so that a run
that was killed, or one after some files have changed, reads only what is left.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from ragdro.access import refused
from ragdro.data.convert import compressed
from ragdro.errors import ConfigError, DataError
from ragdro.files import remove_temporary_files, rename_durably, sync, write_atomically
from ragdro.ingest.cut import Cutter, tokenizer_description
from ragdro.ingest.document import ReadOptions
from ragdro.ingest.formats import BY_SUFFIX, require_libraries
from ragdro.ingest.listing import InputFile, Listing, list_files
from ragdro.ingest.pool import process_files
from ragdro.ingest.work import FileResult, WorkSettings, entry_lines
from ragdro.progress import track

DEFAULT_TOKENS = 100
"""As the passages of Wikipedia that open-domain question answering is measured on."""


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How to ingest. `tokenizer` None counts words; `skip_bad` None passes over any number of bad files."""

    tokens: int = DEFAULT_TOKENS
    overlap: int = 0
    tokenizer: str | None = None
    text_fields: tuple[str, ...] = ()
    title_field: str | None = None
    encoding: str | None = None
    skip_bad: int | None = None
    jobs: int | None = None


@dataclass(slots=True)
class Ingested:
    """What was written and what was not: `bad` are files with the reason, `notes` what to know of others."""

    out: Path
    passages: int = 0
    files: int = 0
    reused: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    left_aside: list[str] = field(default_factory=list)

    @property
    def problems_file(self) -> Path:
        """Where all that is bad is listed, a line a file."""
        return _cache(self.out) / "bad.txt"


def ingest(
    paths: Sequence[Path],
    out: Path,
    settings: IngestSettings | None = None,
    *,
    show_progress: bool = False,
) -> Ingested:
    """Writes the passages of all files below `paths` to `out` (compressed where it ends in .gz or .zst).

    Raises ConfigError for settings that cannot be or a library that is not installed, DataError where there
    is nothing to read, more than `skip_bad` files are bad, or something cannot be written.
    """
    settings = settings or IngestSettings()
    work = _checked(settings)
    if out.is_dir():
        raise DataError(f"is a folder: name a file, as in --out {out / 'corpus.jsonl'}", path=out)
    if not out.parent.is_dir():
        raise DataError(f"no such folder: mkdir -p {out.parent}", path=out.parent)
    cache = _cache(out)
    listing = list_files(paths, out)
    require_libraries({file.format for file in listing.files})
    done = Ingested(out, bad=list(listing.unreadable), left_aside=listing.left_aside())
    _refuse_too_many(done, settings.skip_bad)
    if not listing.files:
        raise _nothing(paths, listing, done)
    try:
        cache.mkdir(exist_ok=True)
        with FileLock(cache / ".lock", blocking=False):
            entries = _process(listing.files, work, cache, settings, done, show_progress=show_progress)
            write_atomically(done.problems_file, "".join(f"{name}: {reason}\n" for name, reason in done.bad))
            if not any(entries):
                raise _nothing(paths, listing, done)
            used = [entry for entry in entries if entry is not None]
            done.passages = _write(out, used, cache)
            _prune(cache, set(used))
    except Timeout as error:
        raise DataError("another ragdro ingest is writing it: wait until it is done", path=out) from error
    return done


def _cache(out: Path) -> Path:
    return out.with_name(f"{out.name}.cache")


def _checked(settings: IngestSettings) -> WorkSettings:
    Cutter(settings.tokens, settings.overlap)
    if settings.jobs is not None and settings.jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, not {settings.jobs}")
    if settings.encoding is not None:
        try:
            b"text".decode(settings.encoding, "replace")
        except LookupError as error:
            raise ConfigError(f"--encoding {settings.encoding}: no encoding that Python knows") from error
    options = ReadOptions(settings.text_fields, settings.title_field, settings.encoding)
    described = None if settings.tokenizer is None else tokenizer_description(settings.tokenizer)
    return WorkSettings(settings.tokens, settings.overlap, described, options)


def _process(
    files: Sequence[InputFile],
    work: WorkSettings,
    cache: Path,
    settings: IngestSettings,
    done: Ingested,
    *,
    show_progress: bool,
) -> list[Path | None]:
    """The cache entry of each file, None for a bad one; `done` records all of them."""
    for folder in (cache, *(entry for entry in cache.iterdir() if entry.is_dir())):
        remove_temporary_files(folder)
    entries: list[Path | None] = [None] * len(files)
    jobs = min(settings.jobs or _cores(), len(files))
    results = process_files(files, work, cache, jobs)
    for place, result in track(results, "reading files", total=len(files), shown=show_progress):
        entries[place] = result.entry
        _add(result, done)
        _refuse_too_many(done, settings.skip_bad)
    done.bad.sort()
    done.notes.sort()
    return entries


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _add(result: FileResult, done: Ingested) -> None:
    if result.entry is None:
        done.bad.append((result.name, result.reason))
        return
    done.files += 1
    done.reused += result.reused
    if result.problems:
        more = f" and {result.more_problems} more" if result.more_problems else ""
        done.bad.append((result.name, f"in part: {'; '.join(result.problems)}{more}"))
    done.notes.extend((result.name, note) for note in result.notes)


def _refuse_too_many(done: Ingested, most: int | None) -> None:
    if most is not None and len(done.bad) > most:
        name, reason = done.bad[-1]
        allowed = "--strict allows none" if most == 0 else f"--skip-bad allows {most}"
        raise DataError(f"{reason} (bad files so far: {len(done.bad)}; {allowed})", path=name)


def _nothing(paths: Sequence[Path], listing: Listing, done: Ingested) -> DataError:
    where = ", ".join(map(str, paths))
    if done.bad:
        (reason, count), *_ = Counter(reason for _, reason in done.bad).most_common(1)
        name = next(name for name, other in done.bad if other == reason)
        others = (
            f" (bad files: {len(done.bad)}, {count} of them for this reason)" if len(done.bad) > 1 else ""
        )
        return DataError(f"gave no text: {name}: {reason}{others}", path=where)
    aside = "; ".join(listing.left_aside())
    suffixes = " ".join(sorted(BY_SUFFIX))
    return DataError(
        f"holds no file that is read{f' ({aside})' if aside else ''}; give files or folders with {suffixes}",
        path=where,
    )


def _write(out: Path, entries: Sequence[Path], cache: Path) -> int:
    """Writes the corpus; in the cache first, where the next run removes what a killed one left."""
    count, partial = 0, cache / ".corpus.tmp"
    try:
        with partial.open("wb") as file, compressed(file, out) as packed:
            for entry in entries:
                for line in entry_lines(entry):
                    packed.write(line)
                    count += 1
        sync(partial)
        rename_durably(partial, out)
    except OSError as error:
        raise DataError(
            f"cannot be written: {refused(error, out)}: no file is read again",
            path=out,
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def _prune(cache: Path, used: set[Path]) -> None:
    """Removes what this run did not use: the cache holds one corpus, not every one there ever was."""
    for folder in [entry for entry in cache.iterdir() if entry.is_dir()]:
        for entry in folder.glob("*.zst"):
            if entry not in used:
                entry.unlink()
        if not any(folder.iterdir()):
            shutil.rmtree(folder)
