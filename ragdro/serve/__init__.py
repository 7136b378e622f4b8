"""A trained system over HTTP: reranking as Cohere, Jina, vLLM and TEI have it, chat as OpenAI has it, and our own."""
