"""Every file of the kit of real data is read whole, where the kit lies beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragdro.data import load_questions, read_corpus, recognise

pytestmark = pytest.mark.slow

KIT = Path(__file__).resolve().parents[4] / "shared" / "data"
FOLDERS = {"rc": 5, "multihop": 6, "dialogue": 2, "corpora": 4, "original": 8}


@pytest.mark.skipif(not KIT.is_dir(), reason="the kit of real data is not here")
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_kit_reads_whole(folder: str) -> None:
    files = [path for path in sorted((KIT / folder).iterdir()) if path.suffix in (".json", ".jsonl")]
    assert len(files) == FOLDERS[folder]
    for path in files:
        source_format = recognise(path)
        if source_format.container == "jsonl":
            with path.open("rb") as lines:
                expected = sum(1 for line in lines if line.strip())
        else:
            expected = int(path.stem.split("_")[-1]) if path.stem.split("_")[-1].isdigit() else 1000
        read = len(list(read_corpus(path))) if source_format.kind == "corpus" else len(load_questions(path))
        assert read == expected, path.name
