"""The command that a run is resumed with, for the last line of one that stopped."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from ragdro.environment import env_world_size

_TRAINING = ("train", "warmup", "study")
_REPEATED = ("ingest", "index")
"""Commands that keep what is done, so that the same one again does the rest."""


def resuming(overrides: Sequence[str] = ()) -> str:
    """`; resume with: ragdro train ... --resume`, with `overrides` in it; the command itself where it does
    the rest of its work when it is given again; empty for others."""
    words = sys.argv[1:]
    if words and words[0] in _REPEATED:
        return f"; resume with: {shlex.join(['ragdro', *words])}"
    if not words or words[0] not in _TRAINING or "--dry-run" in words:
        return ""
    if env_world_size() > 1:
        return f"; resume with the same command and {shlex.join(['--resume', *overrides])}"
    replaced = tuple(f"{override.partition('=')[0]}=" for override in overrides)
    kept = [word for word in words if word not in ("--overwrite", "--resume")]
    kept = [word for word in kept if not (replaced and word.startswith(replaced))]
    return f"; resume with: {shlex.join(['ragdro', *kept, '--resume', *overrides])}"
