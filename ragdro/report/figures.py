"""The curves of a run, as a picture.

In: a run folder. Out: `curves.png` in it: answers, selection, and the bound with the effective sample
size, by iteration. Colours are Okabe and Ito's, told apart by the colour-blind too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ragdro.training.standing import read_results

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def draw_curves(run: Path) -> Path:
    """Draw RUN/curves.png and return its path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    results = read_results(run)
    rows = [results["warm_up"], *results["iterations"]]
    figure, (answers, selection, fit) = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    _lines(answers, rows, {"exact_match": "exact match", "f1": "F1"}, "answers (share of 1)")
    vanilla = results["vanilla_rag"]["exact_match"]
    answers.axhline(vanilla, color="0.5", linestyle=":", label="vanilla RAG, exact match")
    names = {"recall_at_1": "recall@1", "recall_at_3": "recall@3", "recall_at_5": "recall@5"}
    _lines(selection, rows, {**names, "all_gold_selected": "all gold selected"}, "selection (share of 1)")
    _lines(fit, rows, {"bound": "bound"}, "bound (nats)", share=False)
    sizes = fit.twinx()
    sizes.plot(range(len(rows)), [r["effective_sample_size"] for r in rows], "s--", color=_COLOURS[1])
    sizes.set_ylabel("effective sample size (dashed)", color=_COLOURS[1])
    for axes in (answers, selection):
        axes.legend(fontsize=8)
    figure.suptitle(f"{run.name}: {rows[0]['questions']} questions; 0 is the warm-up")
    path = run / "curves.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def _lines(
    axes: Any, rows: list[dict[str, Any]], names: dict[str, str], label: str, *, share: bool = True
) -> None:
    """One line a figure that the run has."""
    for colour, (key, name) in zip(_COLOURS, names.items(), strict=False):
        if rows[0][key] is not None:
            axes.plot(range(len(rows)), [r[key] for r in rows], "o-", color=colour, label=name)
    axes.set_xlabel("iteration")
    axes.set_xticks(range(len(rows)))
    axes.set_ylabel(label)
    if share:
        axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
