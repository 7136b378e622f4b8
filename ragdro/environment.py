"""What a run was made with: versions, commit, seed, date, machine, processes. No user or host names."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("ragdro", "torch", "transformers", "tokenizers", "bm25s", "numpy", "safetensors", "pydantic")


def environment(seed: int) -> dict[str, Any]:
    """The contents of environment.json."""
    return {
        "seed": seed,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in _PACKAGES},
        "processes": env_world_size(),
        "machine": {"system": platform.system(), "architecture": platform.machine(), "cores": os.cpu_count()},
        "command": ["ragdro", *sys.argv[1:]],
    }


def resumed_environment(began: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The contents of environment.json of a run that is resumed: under `resumed` each session's command, date
    and what else is no longer as the run `began`."""
    now = environment(seed)
    changed = {key: value for key, value in now.items() if value != began.get(key)}
    return {**began, "resumed": [*began.get("resumed", ()), changed]}


def sessions(environment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By the contents of environment.json: what each session was made with, the first one first."""
    began = {key: value for key, value in environment.items() if key != "resumed"}
    return [began, *({**began, **changed} for changed in environment.get("resumed", ()))]


def made_with(environment: Mapping[str, Any]) -> list[str]:
    """By the contents of environment.json: versions and commit of each session, where they are other ones."""
    texts = (
        f"{', '.join(f'{name} {number}' for name, number in one['packages'].items() if number)}; commit"
        f" {str(one.get('commit') or 'unknown')[:10]}"
        for one in sessions(environment)
        if "packages" in one
    )
    return list(dict.fromkeys(texts))


def is_of_this_code(environment: Mapping[str, Any]) -> bool:
    """By the contents of environment.json: whether every session had ragdro's version and commit of now."""
    code = {(one.get("packages", {}).get("ragdro"), one.get("commit")) for one in sessions(environment)}
    return code == {(_version("ragdro"), _commit())}


def env_world_size() -> int:
    """How many processes `torchrun` started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def env_rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0")) if env_world_size() > 1 else 0


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checkout's commit, None where the package is not run from one (or there is no git)."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        completed = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return completed.stdout.strip()
