"""`reproductions/asking_again.py`, with the embedded pair: rows read four passages; only *two* asks again."""

from __future__ import annotations

import argparse
import runpy
import shutil
from pathlib import Path

import pytest

import ragdro
from ragdro.sources import resolve
from tests.serving import exported_folder

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_each_row_reads_four_passages_and_two_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "reproductions"))
    script = runpy.run_path(str(ROOT / "reproductions/asking_again.py"))
    data = [f"data.{key}={resolve(f'tiny:far-{key}')}" for key in ("train", "test", "corpus")]
    keys = ["retrieval={rounds: 2, k: [2, 2]}", "retrieval.stop=false", "selector.k=2", "top_n=10"]
    config = ragdro.load_config(ROOT / "configs/tiny-far.yaml", [*data, *keys])
    options = argparse.Namespace(
        data=tmp_path, run=exported_folder(tmp_path / "pair"), train=4, test=3, runs=tmp_path
    )
    one, two, vanilla = (script["records"](config, "far", row, options) for row in ("one", "two", "vanilla"))
    assert [r["id"] for r in one] == [r["id"] for r in two] == [r["id"] for r in vanilla]
    assert len(one) == 3 and all(len(r["selection"]) == 4 for r in one)
    assert all([p["rank_in_candidates"] for p in r["selection"]] == [1, 2, 3, 4] for r in vanilla)
    assert max(r["retrievals"] for r in two) == 2 and not any(r.get("retrievals") for r in one)
    assert all(len(r["selection"]) == 2 * r["retrievals"] for r in two)  # an empty query finds nothing
    written = (tmp_path / "far-two.json").read_bytes()
    assert script["records"](config, "far", "two", options) == two  # from its file
    assert (tmp_path / "far-two.json").read_bytes() == written
    shutil.copytree(options.run, tmp_path / "moved")
    options.run = tmp_path / "moved"
    assert script["records"](config, "far", "two", options) == two  # the same pair
    assert (tmp_path / "far-two.json").read_bytes() == written
    script["pair_of"].cache_clear()
    with (options.run / "selector/config.json").open("a") as file:
        file.write("\n")
    script["records"](config, "far", "two", options)  # another selector, at the same place
    assert (tmp_path / "far-two.json").read_bytes() != written
    options.test = 1
    assert len(script["records"](config, "far", "vanilla", options)) == 1
    script["table"]({"one": one, "two": two, "vanilla": vanilla}, "far")
