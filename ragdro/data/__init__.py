"""Questions and passages from the files that people have: formats are recognised by what they hold.

In: a path (plain, gzip or zstandard; JSONL, a JSON list, TSV), a BEIR folder, or `hf:org/name[:split]`.
Out: `Question` and `Passage`, streamed. Every bad record is a `DataError` naming file, line and field.
"""

from ragdro.data.formats import Format, Source, recognise
from ragdro.data.own import is_reference
from ragdro.data.read import (
    Reading,
    load_questions,
    read_corpus,
    read_gold,
    read_questions,
    resolve_candidates,
)

__all__ = [
    "Format",
    "Reading",
    "Source",
    "is_reference",
    "load_questions",
    "read_corpus",
    "read_gold",
    "read_questions",
    "recognise",
    "resolve_candidates",
]
