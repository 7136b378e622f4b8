"""All studies, by name. Imports no torch."""

from __future__ import annotations

import difflib

from ragdro.errors import ConfigError
from ragdro.studies import systems, training
from ragdro.studies.memory import MEMORY
from ragdro.studies.objectives import OBJECTIVES_STUDY
from ragdro.studies.study import Study
from ragdro.studies.variance import VARIANCE

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        training.ABLATION,
        training.CONVERGENCE,
        VARIANCE,
        training.SAMPLES,
        systems.SELECTOR_INIT,
        systems.RETRIEVER_QUALITY,
        systems.SELECTOR_SIZE,
        OBJECTIVES_STUDY,
        MEMORY,
    )
}


def find_study(name: str) -> Study:
    """Raises `ConfigError` with the nearest name for one that does not exist."""
    if name in STUDIES:
        return STUDIES[name]
    near = difflib.get_close_matches(name, STUDIES, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(STUDIES)}"
    raise ConfigError(f"no study '{name[:80]}'; {hint}")
