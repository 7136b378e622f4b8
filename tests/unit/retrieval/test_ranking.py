"""The cut of a score array against a full sort."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ragdro.retrieval.ranking import top_rows


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.data())
def test_the_cut_is_that_of_a_stable_full_sort(values: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(values)))
    expected = sorted(range(len(values)), key=lambda row: (-values[row], row))[:count]
    assert top_rows(np.array(values, dtype=np.float32), count).tolist() == expected
