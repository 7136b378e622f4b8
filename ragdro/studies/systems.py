"""Studies of what the loop is given: how the selector starts, how good the retriever is, how large models
are."""

from __future__ import annotations

from collections.abc import Callable

from ragdro.report.plot import Panel, Series
from ragdro.studies.records import Run, Runs, over_seeds
from ragdro.studies.result import (
    StudyResult,
    curve_panel,
    curve_table,
    differences_table,
    final_panel,
    final_table,
)
from ragdro.studies.study import Study, sized

_CURVES = ("exact_match", "f1", "full_recall", "bound")


def _warm(run: Run) -> float | None:
    value: float | None = run.results["warm_up"]["exact_match"]
    return value


def _vanilla(run: Run) -> float | None:
    value: float | None = run.results["vanilla_rag"]["exact_match"]
    return value


def _best(run: Run) -> float | None:
    return run.best("exact_match")


def _compared(runs: Runs) -> StudyResult:
    """Variants of one system beside one another: after the warm-up, at their best, and by iteration."""
    tables = {
        "Best iteration": final_table(runs, exact_match_after_the_warm_up=_warm),
        f"Difference from '{next(iter(runs))}'": differences_table(runs),
        "By iteration": curve_table(runs, _CURVES),
    }
    panels = (
        final_panel(runs, {"after the warm-up": _warm, "best iteration": _best}),
        curve_panel(runs, "exact_match"),
        curve_panel(runs, "full_recall"),
    )
    return StudyResult(tables, panels)


SELECTOR_INIT = Study(
    name="selector-init",
    about="the selector from scratch, as it is, after distant supervision, after a teacher's ranking",
    variants={
        "as it is": ("warm_up.selector=null",),
        "from scratch": (
            "selector.model=null",
            "selector.scratch={width: 128, layers: 5, heads: 4, vocabulary: 4096}",
            "warm_up.selector.learning_rate=1e-3",
        ),
        "distant supervision": ("warm_up.teacher=distant", "warm_up.selector.learning_rate=1e-4"),
        "teacher's ranking": ("warm_up.teacher=gold", "warm_up.selector.learning_rate=1e-4"),
    },
    conclude=_compared,
    notes=(
        "as it is: no warm-up of the selector; from scratch: random weights (5 layers, width 128), distant"
        " supervision at 1e-3; the teacher is perfect: it lists the passages labelled gold first, and the"
        " generator's warm-up reads what it lists; both warm-ups at 1e-4",
    ),
)


def _quality(runs: Runs) -> StudyResult:
    """One panel over N, one over the fraction replaced; the undisturbed run with N = 20 is in both."""
    configs = {label: next(iter(seeds.values())).config for label, seeds in runs.items()}
    whole = [label for label, config in configs.items() if not config.corrupt_candidates]
    widest = max(configs[label].top_n for label in whole)
    worse = [label for label, config in configs.items() if config.top_n == widest]
    sizes = {label: float(configs[label].top_n) for label in whole}
    fractions = {label: configs[label].corrupt_candidates for label in worse}
    panels = (
        _over(runs, sizes, "candidates", "candidates a question has (N)"),
        _over(runs, fractions, f"corrupted, N = {widest}", "fraction of the candidates replaced at random"),
    )
    tables = {
        "Best iteration": final_table(
            runs, exact_match_of_vanilla_RAG=_vanilla, exact_match_after_the_warm_up=_warm
        ),
        "By iteration": curve_table(runs, _CURVES),
    }
    return StudyResult(tables, panels)


def _over(runs: Runs, places: dict[str, float], title: str, x: str) -> Panel:
    metrics: dict[str, Callable[[Run], float | None]] = {
        "best iteration": _best,
        "after the warm-up": _warm,
        "vanilla RAG": _vanilla,
    }
    ordered = sorted(places, key=lambda label: places[label])
    series = tuple(
        Series(name, tuple((places[label], over_seeds(runs[label], metric)) for label in ordered))
        for name, metric in metrics.items()
    )
    return Panel(title, x, "exact match (fraction of 1)", series, fraction=True)


RETRIEVER_QUALITY = Study(
    name="retriever-quality",
    about="5, 10 or 20 candidates; 20 of which 0 to 0.8 are replaced by random passages",
    variants={
        **{f"N = {n}": (f"top_n={n}",) for n in (20, 10, 5)},
        **{
            f"{fraction} replaced": ("top_n=20", f"corrupt_candidates={fraction}")
            for fraction in (0.2, 0.4, 0.6, 0.8)
        },
    },
    conclude=_quality,
    sizes=sized({"iterations": 2}),
    notes=(
        "the rows of vanilla RAG and of the warm-up are those of N = 20; replaced: passages drawn from the"
        " corpus stand in the places of candidates drawn at random, for each question once a seed",
    ),
)


def _layers(selector: int, generator: int) -> tuple[str, ...]:
    rates = (f"warm_up.{role}.learning_rate=3e-4" for role in ("selector", "generator"))
    return (f"selector.layers={selector}", f"generator.layers={generator}", *rates)


SELECTOR_SIZE = Study(
    name="selector-size",
    about="a smaller selector with a larger generator, and the other way round (the paper's Figure 7)",
    variants={
        f"selector {s}, generator {g}": _layers(s, g) for s, g in ((5, 5), (4, 5), (3, 5), (5, 4), (4, 4))
    },
    conclude=_compared,
    notes=(
        "a model of fewer layers is the first layers of the configured one (5 in the embedded base), the"
        " upper ones cut off: no smaller model was pre-trained for this, and both warm-ups, at 3e-4 for all"
        " rows, have to mend the cut",
    ),
)
