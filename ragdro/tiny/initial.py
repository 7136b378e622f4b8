"""Initial weights with which attention can compare names and look a few tokens back from the first step.

A random start finds neither in the budget of two cores: after 600 steps the model could not yet copy a name
from the question to its repetition. What is set here are only starting points; training changes every weight.

The residual stream begins as two halves. *Own* (64 dimensions) holds the token's embedding; *context* (64) is
empty, and layer 0 fills it with the embeddings of the four tokens before: its heads *look back* by 1 to 4,
through the fast rotary pairs, whose logit `Σ_j a² cos(f_j (i − k − offset))` peaks at one offset. One large
shared component (dimension 0) is the constant that such queries and keys read. The heads after it compare
tokens through the slow pairs, which hardly turn over a prompt:

- `context → own`: find where a token that stands just before this place was named, and bring its neighbours
  (an identifier before a name) as a guess of the next token;
- the same, bringing the token found there, as a guess and as context for the next layer (the second hop);
- `own → own`: find the earlier place of the same token, and bring its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

EMBEDDING = 0.3
FAINT = 0.3
"""Punctuation, bytes and function words start shorter, or they would drown names in the context."""
CONSTANT = 4.0
"""The shared component, in units of the other components' spread."""
GAIN = 1.0
"""How much a head adds of a token that it reads, in units of an embedding."""
PEAK = 80.0
MATCH = 20.0
"""The logit of one word in common."""
KEY_CONTEXT = 0.4
NEAR = 50.0
FASTEST, SLOWEST = 2.0, 0.03
SLOW = 0.003
"""Rotary pairs slower than this (radians a token) count as content pairs."""
TYPICAL = 0.7
"""The spread of an embedding's components after the norm, where two or three words share the stream."""


class _Head:
    """Views of one head's query, key, value (head_dim, hidden) and output (hidden, head_dim) weights."""

    def __init__(self, model: LlamaForCausalLM, layer: int, head: int) -> None:
        attention = model.model.layers[layer].self_attn
        self.size = attention.head_dim
        rows = slice(head * self.size, (head + 1) * self.size)
        self.query, self.key = attention.q_proj.weight[rows], attention.k_proj.weight[rows]
        self.value, self.output = attention.v_proj.weight[rows], attention.o_proj.weight[:, rows]
        theta = model.config.rope_parameters["rope_theta"]
        self.frequency = theta ** (-torch.arange(0, self.size, 2) / self.size)

    def bring(self, read: Tensor, write: Tensor, gain: float) -> None:
        """Add what is read through the rows of `read` along the rows of `write` (both head_dim, hidden)."""
        size = len(read)
        self.value.zero_()
        self.output.zero_()
        self.value[:size] = read
        self.output[:, :size] = gain * EMBEDDING * write.T

    def positional(self, pairs: Tensor, amplitude: float, offset: int, sign: float = 1.0) -> None:
        """Add `sign · amplitude · cos(f (distance − offset))` for each of the pairs to the logits (before
        scaling)."""
        half = self.size // 2
        angle = -offset * self.frequency[pairs]
        root = amplitude**0.5 / CONSTANT
        self.key[pairs, 0] = root
        self.query[pairs, 0] = sign * root * torch.cos(angle)
        self.query[pairs + half, 0] = sign * root * torch.sin(angle)

    def look_back(self, offset: int, peak: float = PEAK) -> None:
        """Attend to the token `offset` before."""
        self.query.zero_()
        self.key.zero_()
        self.positional(torch.nonzero(self.frequency > 0.04).flatten(), peak, offset)

    def match(self, asked: Tensor, offered: Tensor) -> None:
        """Attend where `offered` (seen in the key) is like `asked` (seen in the query), but not near."""
        half = self.size // 2
        slow = torch.nonzero(self.frequency < SLOW).flatten()
        rows = torch.cat([slow, slow + half])
        seen = torch.nn.init.orthogonal_(torch.empty(len(rows), len(asked)))
        scale = (MATCH * self.size**0.5 / (len(asked) * TYPICAL**2)) ** 0.5
        self.query.zero_()
        self.key.zero_()
        self.query[rows] = scale * seen @ asked
        self.key[rows] = scale * seen @ offered
        others = torch.nonzero((self.frequency < FASTEST) & (self.frequency >= SLOWEST)).flatten()
        self.positional(others, NEAR * self.size**0.5 / len(others), 0, sign=-1.0)


@torch.no_grad()
def initialise(model: LlamaForCausalLM, content: list[int], synonyms: list[tuple[int, int]]) -> None:
    """Set the embedding and the attention heads; draws from torch's global generator.

    `content` are the ids of the tokens that carry meaning (names, nouns, numbers …); the second of two
    `synonyms` starts as the first.
    """
    hidden, layers = model.config.hidden_size, model.model.layers
    directions = torch.zeros(hidden, hidden)
    directions[1:, 1:] = torch.nn.init.orthogonal_(torch.empty(hidden - 1, hidden - 1))
    size = (hidden - 2) // 3
    own, context, found = directions[2 : 2 + 3 * size].unflatten(0, (3, size))
    length = torch.full((model.config.vocab_size, 1), FAINT)
    length[content] = 1.0
    embedding = model.model.embed_tokens.weight
    words = torch.nn.functional.normalize(torch.randn(len(length), size), dim=1) * size**0.5
    for first, second in synonyms:
        words[second] = words[first]
    embedding.copy_(EMBEDDING * length * words @ own)
    embedding[:, 0] = CONSTANT * EMBEDDING
    embedding.add_(EMBEDDING * (size * (1 - length**2)).sqrt() * directions[1])
    for offset in range(1, 5):
        head = _Head(model, 0, offset - 1)
        head.look_back(offset)
        head.bring(own, context, GAIN)
    for layer in range(1, len(layers)):
        asked = context if layer == 1 else found
        named, same_words, repeated, last = (_Head(model, layer, head) for head in range(4))
        named.match(asked, own + KEY_CONTEXT * context)
        named.bring(context, own, GAIN)
        same_words.match(asked, context)
        same_words.bring(own, found if layer == 1 else own + found, GAIN)
        repeated.match(own, own)
        repeated.bring(context if layer == 1 else found, found, 0.4 * GAIN)
        if layer == 1:
            last.look_back(4)
            last.bring(context, context, GAIN)
        elif layer == len(layers) - 2:
            last.look_back(5, 3 * PEAK)
            last.bring(found, found, 1.5 * GAIN)
        else:
            last.match(context, own)
            last.bring(context, own, GAIN)
