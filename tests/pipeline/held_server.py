"""`ragdro serve` whose models wait: python held_server.py FOLDER serve ...

A batch that is begun leaves a file in FOLDER and is computed when `FOLDER/go` is there.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ragdro.cli import main
from ragdro.serve import engine

_work = engine.work


def held(folder: Path, *arguments: Any) -> Any:
    """What the engine's own work returns, once it may."""
    tempfile.mkstemp(prefix="begun-", dir=folder)
    while not (folder / "go").exists():
        time.sleep(0.01)
    return _work(*arguments)


if __name__ == "__main__":
    folder = Path(sys.argv.pop(1))
    engine.work = lambda *arguments: held(folder, *arguments)
    main()
