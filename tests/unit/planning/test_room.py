"""N and the passages' limit fit the positions: fewer candidates first, then shorter ones."""

from __future__ import annotations

import pytest

from ragdro.planning.room import Room


@pytest.mark.parametrize(
    ("positions", "fits"),
    [
        (None, (20, 100)),
        (100_000, (20, 100)),
        (2000, (14, 100)),  # 1800 - 50 - 40 - 64 = 1646 = 14.96 x 110
        (1000, (8, 83)),  # 900 - 154 = 746 = 8 x 93.25
        (300, (8, 4)),
    ],
)
def test_by_hand(positions: int | None, fits: tuple[int, int]) -> None:
    assert Room(positions, once=50, each=10).fit(20, 32, 100) == fits
    assert Room(positions, 50, 10).fit(3, 32, 16)[0] == 3
