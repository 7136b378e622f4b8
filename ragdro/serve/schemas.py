"""What requests look like. Parameters not named here are ignored; values of a wrong type are refused."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ragdro.config.answering import Answering, AnsweringKind, changed
from ragdro.dialogue import as_question
from ragdro.types import Passage


def _readable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds a NUL character")
    return text


def _asked(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


def _none(tools: list[object]) -> list[object]:
    if tools:
        raise ValueError("are not supported; leave them out")
    return tools


Text: TypeAlias = Annotated[str, AfterValidator(_readable)]
Query: TypeAlias = Annotated[Text, AfterValidator(_asked)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class Document(_Body):
    """A passage that the client brings."""

    text: Text
    title: Text = ""
    id: Text | None = None


Documents: TypeAlias = list[Text | Document]


def as_passages(documents: Documents) -> tuple[Passage, ...]:
    """The passages; one without an id gets its place, from 0, as results name it."""
    given = [Document(text=d) if isinstance(d, str) else d for d in documents]
    return tuple(Passage(str(i) if d.id is None else d.id, d.title, d.text) for i, d in enumerate(given))


class RerankRequest(_Body):
    """Cohere's, Jina's and vLLM's names, and Text Embeddings Inference's (`texts`, with its own answer)."""

    model: str | None = None
    query: Query
    documents: Annotated[Documents, Field(min_length=1)] | None = None
    texts: Annotated[list[Text], Field(min_length=1)] | None = None
    top_n: int | None = Field(None, ge=1)
    return_documents: bool | None = None
    max_tokens_per_doc: int | None = Field(None, ge=1)
    raw_scores: bool = False
    return_text: bool = False

    @model_validator(mode="after")
    def _one_list(self) -> RerankRequest:
        if (self.documents is None) == (self.texts is None):
            raise ValueError("give either documents or texts")
        return self


class TextPart(_Body):
    """A part of a message's content."""

    type: Literal["text"]
    text: Text


class Message(_Body):
    """A turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """All of its text."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(_Body):
    """OpenAI's."""

    include_usage: bool = False


class ResponseFormat(_Body):
    """Text alone."""

    type: Literal["text"]


class _Asks(_Body):
    """How to answer; what is not said is as the server was started."""

    answering: AnsweringKind | None = None
    threshold: float | None = Field(None, ge=0, le=1)

    def changed(self, own: Answering, samples: int | None = None, thoughts: int | None = None) -> Answering:
        """The server's own way with the request's changes. Raises `ConfigError` for a threshold, or several
        thoughts, of any but marginal answers."""
        drawn = None if (self.answering or own.kind) == "greedy" else samples
        return changed(own, self.answering, threshold=self.threshold, samples=drawn, thoughts=thoughts)


class ChatRequest(_Asks):
    """OpenAI's chat completion. `documents`: answer from these instead of searching."""

    model: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    tools: Annotated[list[object], AfterValidator(_none)] | None = None
    response_format: ResponseFormat | None = None
    documents: Annotated[Documents, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _asks(self) -> ChatRequest:
        if self.messages[-1].role != "user" or not self.messages[-1].text.strip():
            raise ValueError("messages: the last one must be a user's and not empty")
        return self

    @property
    def question(self) -> str:
        """The turns of user and assistant, a line each: how dialogues stand in training data."""
        return as_question([m.text for m in self.messages if m.role in ("user", "assistant")])


class AnswerRequest(_Asks):
    """Our own. `samples`: lists (paths, where it searches more than once) drawn to see whether the answer
    depends on the list (0: none), or for a marginal answer; `thoughts`: those that it draws for each list or
    path. `inclusion`: with each candidate's probability of being in the list. `stage`: one of those that are
    served."""

    model: str | None = None
    question: Query
    documents: Annotated[Documents, Field(min_length=1)] | None = None
    samples: int = Field(8, ge=0, le=64)
    thoughts: int | None = Field(None, ge=1, le=64)
    inclusion: bool = False
    stage: Text | None = None

    def answering_of(self, own: Answering) -> Answering:
        """How to answer. `samples` that the request names are a marginal answer's too."""
        samples = self.samples if self.samples and "samples" in self.model_fields_set else None
        return self.changed(own, samples, self.thoughts)
