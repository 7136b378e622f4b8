"""A trained selector as a reranker of other libraries; each module needs an extra of its own name."""
