"""Initial weights with which attention can look a few tokens back and compare names from the first step.

A random start finds neither in the budget of two cores: after 600 steps such a model could not yet copy a
name. With rougher heads (one and three tokens back, one kind of match) it could not carry an identifier from
a passage to its answer after 4,500; with these it does after some hundreds. They are only starting points;
training changes every weight.

The residual stream begins as three parts of 42 dimensions. *Own* holds the token's embedding. *Context* is
empty at first: layer 0 fills it with the embeddings of the four tokens before, layer 1 with those of the four
before these. *Retrieved* is what later heads bring. Two more dimensions are constants that positional terms
read.

- A *look-back* head attends to the token at one offset, through the fast rotary pairs: its logit
  `Σ_j a² cos(f_j (i − k − offset))` peaks there.
- A *match* head compares what a token asks for with what others offer, through the slow pairs, which hardly
  turn over a prompt. A dip at short distances keeps a token from finding itself.

In each layer after the first, one head finds where a word of the context was named and brings what stood
before it (the identifier before a name); one finds where the same words stood before and brings the word that
followed (the entity after a person and a verb). From layer 2 on they ask for what was found in the layer
below: the second hop.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM

EMBEDDING = 0.3
"""Large against the steps of the optimiser, which would otherwise undo the heads before they are of use."""
FAINT = 0.3
"""Punctuation, bytes and function words start shorter, or they would drown names in the context."""
CONSTANT = 4.0
"""The shared component, in units of the other components' spread."""
PEAK, MATCH, NEAR = 80.0, 20.0, 50.0
"""Logits: a look-back head's for each pair (before scaling), one word in common, the dip at distance 0."""
KEY_CONTEXT = 0.4
"""How much a named word's own context counts beside it, so that `works` after `Gizan` is found by both."""
SLOW = 0.003
"""Rotary pairs slower than this (radians a token) compare contents."""
FASTEST, SLOWEST = 2.0, 0.03
"""The pairs between these make the dip, which then ends after some ten tokens."""
TYPICAL = 0.7
"""The spread of an embedding's components after the norm, where two or three words share the stream."""
SLIGHT, STRONG = 0.4, 1.5
"""Gains of heads that bring mostly noise, and of the one that carries the first hop's result along."""
LIST_OFFSET = 5
"""From the bracket after `[3] >` back to the colon before it, where the first hop was found."""


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

    def bring(self, read: Tensor, write: Tensor, gain: float = 1.0) -> None:
        """Add what is read through the rows of `read` along the rows of `write` (both size, hidden)."""
        self.value.zero_()
        self.output.zero_()
        self.value[: len(read)] = read
        self.output[:, : len(read)] = gain * EMBEDDING * write.T

    def look_back(self, offset: int, peak: float = PEAK) -> None:
        """Attend to the token `offset` before."""
        self.query.zero_()
        self.key.zero_()
        self._positional(torch.nonzero(self.frequency > 0.04).flatten(), peak, offset)

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
        dip = torch.nonzero((self.frequency < FASTEST) & (self.frequency >= SLOWEST)).flatten()
        self._positional(dip, NEAR * self.size**0.5 / len(dip), 0, sign=-1.0)

    def _positional(self, pairs: Tensor, amplitude: float, offset: int, sign: float = 1.0) -> None:
        """Add `sign · amplitude · cos(f (distance − offset))` for each of the pairs to the logits (before
        scaling)."""
        half = self.size // 2
        angle = -offset * self.frequency[pairs]
        root = amplitude**0.5 / CONSTANT
        self.key[pairs, 0] = root
        self.query[pairs, 0] = sign * root * torch.cos(angle)
        self.query[pairs + half, 0] = sign * root * torch.sin(angle)


@torch.no_grad()
def initialise(model: LlamaForCausalLM, content: list[int], synonyms: list[tuple[int, int]]) -> None:
    """Set the embedding and the attention heads (4 a layer); draws from torch's global generator.

    `content` are the ids of the tokens that carry meaning (names, nouns, numbers …); the second of two
    `synonyms` starts as the first.
    """
    hidden, layers = model.config.hidden_size, len(model.model.layers)
    directions = torch.zeros(hidden, hidden)
    directions[1:, 1:] = torch.nn.init.orthogonal_(torch.empty(hidden - 1, hidden - 1))
    size = (hidden - 2) // 3
    own, context, retrieved = torch.split(directions[2 : 2 + 3 * size], size)
    _embed(model, own, directions[1], content, synonyms)
    for offset in range(1, 5):
        head = _Head(model, 0, offset - 1)
        head.look_back(offset)
        head.bring(own, context)
    for layer in range(1, layers):
        asked = context if layer == 1 else retrieved
        named, same_words, repeated, last = (_Head(model, layer, head) for head in range(4))
        named.match(asked, own + KEY_CONTEXT * context)
        named.bring(context, own)
        same_words.match(asked, context)
        same_words.bring(own, retrieved if layer == 1 else own + retrieved)
        repeated.match(own, own)
        repeated.bring(context if layer == 1 else retrieved, retrieved, SLIGHT)
        if layer == 1:
            last.look_back(4)
            last.bring(context, context)
        elif layer == layers - 2:
            last.look_back(LIST_OFFSET, 3 * PEAK)
            last.bring(retrieved, retrieved, STRONG)
        else:
            last.match(context, own)
            last.bring(context, own)


def _embed(
    model: LlamaForCausalLM, own: Tensor, filler: Tensor, content: list[int], synonyms: list[tuple[int, int]]
) -> None:
    """Random directions; what faint tokens lack in length goes along `filler`, so that all norms agree."""
    size = len(own)
    length = torch.full((model.config.vocab_size, 1), FAINT)
    length[content] = 1.0
    words = F.normalize(torch.randn(len(length), size), dim=1) * size**0.5
    for first, second in synonyms:
        words[second] = words[first]
    embedding = model.model.embed_tokens.weight
    embedding.copy_(length * words @ own + (size * (1 - length**2)).sqrt() * filler)
    embedding[:, 0] = CONSTANT
    embedding.mul_(EMBEDDING)
