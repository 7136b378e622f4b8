"""A prompt's text in segments: what a template says and what users say, by turns, cut where no token crosses.

In: blocks, each a list of parts, ours and the users' by turns. Out: what `TextTokenizer.prompt` takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from string import Formatter

from ragdro.lm.chat import ChatFrame
from ragdro.lm.vocabulary import Parts, Place


@lru_cache(maxsize=256)
def fields(text: str) -> tuple[tuple[str, str | None], ...]:
    """The pieces of a template text: what is written and the slot behind it, None at the end."""
    return tuple((literal, slot) for literal, slot, _, _ in Formatter().parse(text))


def enclose(blocks: list[list[str]], frame: ChatFrame) -> None:
    """Put what the chat template writes around the blocks, whose outer white space it may take off."""
    places = [(parts, i) for parts in blocks for i in range(len(parts))]
    for parts, i in places if frame.strips[0] else []:
        parts[i] = parts[i].lstrip()
        if parts[i]:
            break
    for parts, i in reversed(places) if frame.strips[1] else []:
        parts[i] = parts[i].rstrip()
        if parts[i]:
            break
    blocks[0][0] = frame.before + blocks[0][0]
    blocks[-1][-1] += frame.after


def _lines(block: list[str]) -> list[list[str]]:
    """The block cut in front of each user's text that begins a line, so that a text is tokenised once for
    all places that it may have."""
    lines = [[block[0]]]
    for said, ours in zip(block[1::2], block[2::2], strict=True):
        if said and lines[-1][-1].endswith("\n"):
            lines.append([""])
        lines[-1] += [said, ours]
    return lines


def segments_of(blocks: Sequence[list[str]]) -> tuple[list[Parts], list[Place]]:
    """The blocks, joined wherever the border between two is not a newline of ours before something visible,
    and the place behind each block but the last; newlines that begin a block go to the one in front of it."""
    (_, first), *others = ((number, line) for number, block in enumerate(blocks) for line in _lines(block))
    segments, places = [list(first)], list[Place]()
    for number, line in others:
        rest = line[0].lstrip("\n")
        segments[-1][-1] += line[0][: len(line[0]) - len(rest)]
        if number > len(places):
            places.append((len(segments) - 1, len(segments[-1]) - 1, len(segments[-1][-1])))
        following = next(filter(None, [rest, *line[1:]]), "")[:1]
        if segments[-1][-1].endswith("\n") and (following.isalnum() or following in tuple('[("')):
            segments.append([rest, *line[1:]])
        else:
            segments[-1][-1] += rest
            segments[-1] += line[1:]
    return [tuple(parts) for parts in segments], places


def without_space(segments: Sequence[Parts], place: Place) -> Place:
    """The place in front of the white space that it stands behind."""
    segment, part, characters = place
    return segment, part, len(segments[segment][part][:characters].rstrip())
