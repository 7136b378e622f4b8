"""A trained system over HTTP: reranking as Cohere, Jina, vLLM and TEI have it, OpenAI's chat, and our own."""
