"""All studies, by name. Imports no torch."""

from __future__ import annotations

import difflib

from ragdro.errors import ConfigError
from ragdro.studies import systems, training
from ragdro.studies.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        training.ABLATION,
        training.CONVERGENCE,
        training.SAMPLES,
        systems.SELECTOR_INIT,
        systems.RETRIEVER_QUALITY,
        systems.SELECTOR_SIZE,
    )
}


def find_study(name: str) -> Study:
    """Raises `ConfigError` with the nearest name for one that does not exist."""
    if name in STUDIES:
        return STUDIES[name]
    near = difflib.get_close_matches(name, STUDIES, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(STUDIES)}"
    raise ConfigError(f"no study '{name[:80]}'; {hint}")
