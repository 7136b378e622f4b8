"""Importance weights for a trainer of one's own.  python examples/weights.py"""

from __future__ import annotations

import torch

from ragdro import bound, effective_sample_size, importance_weights

# One question, four lists drawn from the selector: log p(y|x,d_z), log p(z|x) and log q(z), in nats.
log_likelihood = torch.tensor([[-0.4, -2.3, -5.0, -2.3]])
log_prior = torch.tensor([[-1.2, -0.7, -3.0, -0.7]])
log_proposal = log_prior  # drawn from the selector itself


def main() -> None:
    weights = importance_weights(log_likelihood, log_prior, log_proposal)
    print("weights:", [round(w, 3) for w in weights[0].tolist()])
    print("effective sample size:", round(float(effective_sample_size(weights)), 2), "of 4")
    print("bound:", round(float(bound(log_likelihood, log_prior, log_proposal)), 2), "nats")


if __name__ == "__main__":
    main()
