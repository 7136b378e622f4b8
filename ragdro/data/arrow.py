"""Parquet files, Arrow files and the folders that `Dataset.save_to_disk` writes, row by row with pyarrow."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import orjson

from ragdro.access import refused
from ragdro.errors import DataError

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_ROWS = 1024


def check_saved(folder: Path) -> None:
    """DataError where a folder is not a saved dataset, saying what it is and what to name instead."""
    if (folder / _STATE).is_file():
        return
    if (folder / _SPLITS).is_file():
        splits = sorted(path.parent.name for path in folder.glob(f"*/{_STATE}"))
        first = folder / ("train" if "train" in splits else splits[0]) if splits else folder
        look = f"name one, as in: ragdro data inspect {shlex.quote(str(first))}"
        named = look if splits else "none of which is there; get the folder again"
        raise DataError(f"is a saved dataset with the splits {', '.join(splits)}: {named}", path=folder)
    command = f"ragdro ingest {shlex.quote(str(folder))} --out corpus.jsonl"
    ingested = f"of documents a corpus is made by: {command}"
    if next(folder.rglob("*.parquet"), None) is not None:
        raise DataError(
            f"is a folder of Parquet files: name a split, as hf:{folder}:train; {ingested}", path=folder
        )
    raise DataError(
        "is a folder, but neither a BEIR folder (corpus.jsonl, queries.jsonl, qrels/) nor a saved dataset;"
        f" {ingested}",
        path=folder,
    )


def rows(
    path: Path, container: Literal["parquet", "arrow", "saved dataset"]
) -> Iterator[tuple[int, dict[str, object]]]:
    """The rows, numbered from 1. Raises DataError without pyarrow and for a file that it cannot read."""
    try:
        import pyarrow
    except ImportError as error:
        raise DataError("needs the package `pyarrow`: pip install 'ragdro[arrow]'", path=path) from error
    number = 0
    for file in _saved_files(path) if container == "saved dataset" else [path]:
        try:
            for batch in _parquet(file) if container == "parquet" else _arrow(file):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:160]
            if isinstance(error, OSError) and error.errno:  # Arrow raises it without a number for damage
                raise DataError(f"cannot be read: {refused(error, file)}", path=file) from error
            raise DataError(f"cannot be read: {reason}; get the file again", path=file) from error


def _saved_files(folder: Path) -> list[Path]:
    try:
        state = orjson.loads((folder / _STATE).read_bytes())
        return [folder / file["filename"] for file in state["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("is not the state of a saved dataset", path=folder / _STATE) from error


def _parquet(path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_ROWS)


def _arrow(path: Path) -> Iterator[Any]:
    """The record batches of an Arrow file, or of an Arrow stream, as saved datasets have."""
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        try:
            file = pyarrow.ipc.open_file(source)
        except pyarrow.ArrowInvalid:
            source.seek(0)
            whole: Iterator[Any] = iter(pyarrow.ipc.open_stream(source))
        else:
            whole = (file.get_batch(i) for i in range(file.num_record_batches))
        for batch in whole:
            for start in range(0, batch.num_rows, _ROWS):
                yield batch.slice(start, _ROWS)
