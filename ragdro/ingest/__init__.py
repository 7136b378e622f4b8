"""Documents → passages: a folder of text, HTML, PDF, Office files and tables as a corpus.

In: paths and a passage's budget of tokens. Out: our own JSONL, each passage with an id that stays and the
place that it came from. Importing this package loads neither torch nor the libraries that read files.
"""

from ragdro.ingest.run import Ingested, IngestSettings, ingest

__all__ = ["IngestSettings", "Ingested", "ingest"]
