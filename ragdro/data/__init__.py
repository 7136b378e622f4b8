"""Questions and passages from the files that people have: formats are recognised by what they hold.

In: a path (JSON, CSV, TSV, plain or compressed; Parquet, Arrow), a BEIR folder, a saved dataset, or
`hf:org/name[:split]`; where names differ from all that we know, the user's `fields`.
Out: `Question` and `Passage`, streamed. Every bad record is a `DataError` naming file, line and field.
"""

from ragdro.data.containers import Source
from ragdro.data.formats import Format, recognise
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
