"""What two processes do once between them before training begins."""

from __future__ import annotations

import pytest

from benchmarks.start import HERE, started


@pytest.mark.slow
def test_two_processes_tokenise_each_text_once_build_no_prompt_and_hash_no_file_twice() -> None:
    """1,000 questions with 20 candidates each out of 5,000 passages."""
    found = started(HERE, 1000)
    assert found["texts"] > 5000 and found["texts_again"] == 0
    assert found["encoded"] < 1.15 * found["texts"]  # what else is encoded is ours: templates, probes
    assert found["prompts"] == 0
    assert found["hashed"] == found["hashed_at_most"] == 1
