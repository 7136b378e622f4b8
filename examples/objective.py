"""An objective of one's own, named in a config by its import path.  python examples/objective.py"""

from __future__ import annotations

from pathlib import Path

import ragdro
from ragdro.algorithms import Algorithm
from ragdro.algorithms.examples import TrainingExample, answer_example, list_example
from ragdro.types import WeightedTask


class BestOnly(Algorithm):
    """Both models learn from the list under which the gold answer was likeliest, and from no other."""

    kind: str = "objective:BestOnly"

    def selector_example(self, selector: ragdro.Selector, weighted: WeightedTask) -> TrainingExample:
        """The best list has weight 1."""
        return list_example(selector, weighted, _best(weighted))

    def generator_example(self, generator: ragdro.Generator, weighted: WeightedTask) -> TrainingExample:
        """The answer under the best list has weight 1."""
        return answer_example(generator, weighted, _best(weighted))


def _best(weighted: WeightedTask) -> list[float]:
    likelihoods = [sample.log_likelihood for sample in weighted.samples]
    best = likelihoods.index(max(likelihoods))
    return [float(i == best) for i in range(len(likelihoods))]


if __name__ == "__main__":
    # The same on the command line: PYTHONPATH=examples ragdro train CONFIG.yaml objective=objective:BestOnly
    tiny = Path(__file__).parents[1] / "configs/tiny.yaml"
    print("objective:", ragdro.load_config(tiny, ["objective=objective:BestOnly"]).objective.kind)
