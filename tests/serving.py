"""An exported folder of the embedded model, made without training, for tests that ask and serve."""

from __future__ import annotations

import shutil
from pathlib import Path

from ragdro.config import load_config
from ragdro.runs.exported import write_exported_config
from ragdro.sources import resolve

ROOT = Path(__file__).parents[1]
QUESTIONS = (
    "What animal is on the painting of Risor?",
    "What animal is on the sculpture of the shop where Desus pays?",
    "Who buys from Kepin?",
)
PASSAGES = ["Risor shows a mule upon its painting", "Vufan sings at Sivel", "Kepin shows a lobster"]


def exported_folder(folder: Path, *overrides: str) -> Path:
    """`folder` as `ragdro export` leaves it: both roles are the embedded base as it is."""
    config = load_config(ROOT / "configs/tiny.yaml", [f"cache={folder.parent / 'cache'}", *overrides])
    write_exported_config(config, folder)
    for role in ("selector", "generator"):
        shutil.copytree(resolve("tiny:base"), folder / role)
    return folder
