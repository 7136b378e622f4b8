"""Objectives, one file each: what is proposed, how it is weighted, what each model is fitted to."""

from ragdro.algorithms.base import Algorithm, LabelCost, Labeller
from ragdro.algorithms.dpo import Dpo
from ragdro.algorithms.dro import Dro
from ragdro.algorithms.dro_centered import DroCentered
from ragdro.algorithms.dro_tempered import DroTempered
from ragdro.algorithms.marginal import Marginal
from ragdro.algorithms.rejection import Rejection
from ragdro.algorithms.rloo import Rloo
from ragdro.algorithms.rrpo import Rrpo
from ragdro.algorithms.sft import Sft

__all__ = [
    "Algorithm",
    "Dpo",
    "Dro",
    "DroCentered",
    "DroTempered",
    "LabelCost",
    "Labeller",
    "Marginal",
    "Rejection",
    "Rloo",
    "Rrpo",
    "Sft",
]
