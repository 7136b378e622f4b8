"""Text of passages and models on a terminal: nothing in it steers the terminal.

In: any text. Out: one line in which control characters and those that turn the writing direction are
shown as the replacement character; white space becomes single spaces.
"""

from __future__ import annotations

import re

from rich.markup import escape

_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """`text` as it can be shown anywhere."""
    return harmless(" ".join(text.split()))


def harmless(text: str) -> str:
    """`text`, a single line, its spaces as they are."""
    return _STEERING.sub("\ufffd", text)


def marked_up(text: str) -> str:
    """The same inside rich markup, in which it has no meaning."""
    return escape(one_line(text))
