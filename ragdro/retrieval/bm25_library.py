"""bm25s, imported so that it leaves a GPU alone.

Where JAX is installed beside it, importing bm25s calls JAX, which at once takes three quarters of the GPU's
memory. It is not needed here: the best passages are found by `ragdro.retrieval.postings`.
"""

from __future__ import annotations

import sys

_there = sys.modules.get("jax")
sys.modules["jax"] = None  # type: ignore[assignment]  # "import jax" raises ImportError
try:
    import bm25s
    from bm25s.tokenization import Tokenized, Tokenizer
finally:
    if _there is None:
        del sys.modules["jax"]
    else:
        sys.modules["jax"] = _there

__all__ = ["Tokenized", "Tokenizer", "bm25s"]
