"""Studies of the training itself: what each model contributes, and whether the loop converges."""

from __future__ import annotations

from ragdro.report.sheet import Cell, Sheet
from ragdro.studies.outcome import Outcome, curve_panel, curve_table, differences, final_table
from ragdro.studies.records import FIGURES, Runs
from ragdro.studies.study import Study


def _ablation(runs: Runs) -> Outcome:
    lost = _against_full(runs)
    panels = (
        curve_panel(runs, "exact_match"),
        curve_panel(runs, "all_gold_selected"),
        curve_panel(runs, "bound", share=False),
    )
    tables = {
        "Best iteration": final_table(runs),
        "Difference from training both": lost,
        "By iteration": curve_table(runs, ("exact_match", "f1", "all_gold_selected", "bound")),
    }
    return Outcome(tables, panels)


def _against_full(runs: Runs) -> Sheet:
    keys = ("exact_match", "f1", "all_gold_selected", "bound")
    (_, full), *others = runs.items()
    rows: list[tuple[Cell, ...]] = []
    for label, seeds in others:
        cells = [differences(full, seeds, key) for key in keys]
        rows.append((label, *cells))
    return Sheet(("", *(FIGURES[key] for key in keys)), tuple(rows))


ABLATION = Study(
    name="ablation",
    about="both models trained, one of them frozen, both frozen, over the iterations (the paper's Figure 5)",
    variants={
        "both trained": (),
        "selector frozen": ("train_selector=false",),
        "generator frozen": ("train_generator=false",),
        "both frozen": ("train_selector=false", "train_generator=false", "iterations=0"),
    },
    conclude=_ablation,
    notes=(
        "frozen: as the warm-up left it; with both frozen nothing moves: measured once and drawn through",
    ),
)
