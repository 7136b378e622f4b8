"""A prompt has the ids that the tokenizer gives the whole text, computed here by the tokenizer itself."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ragdro.lm.tokens import TextTokenizer
from ragdro.prompts import PromptTemplate, load_template
from ragdro.prompts.template import Budget
from ragdro.tiny.tokenizer import make_tokenizer
from ragdro.types import Passage
from tests.conftest import TOKENIZERS

WORDS = "Mara Voss works for Zorba.\nWhere is it?\n\nSee [1] > [2], (near) the  sea: 17 o'clock.\n"
CHAT = (
    "{{ bos_token }}"
    "{% for m in messages %}[/INST]{{ m.role }}\n{{ m.content | trim }}<|eot_id|>\n{% endfor %}"
    "{% if add_generation_prompt %}[/INST]assistant\n{% endif %}"
)
ROOMY = Budget(10_000, 10_000)


def gpt_like() -> PreTrainedTokenizerFast:
    """Byte-level BPE with the usual splitting and merges over newlines and spaces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "</s>", "<|eot_id|>", "[/INST]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([WORDS, "\n\n\n  \n a\n\n"] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def llama_like() -> PreTrainedTokenizerFast:
    """BPE over the whole text, spaces written as marks and one put in front, as old SentencePiece models."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    bytes_of = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>", "</s>", "<|eot_id|>", "[/INST]", *bytes_of]
    )
    tokenizer.train_from_iterator(WORDS.replace("\n", "\n ").split(" "), trainer)
    spec = json.loads(tokenizer.to_str())  # the trainer makes the bytes special, which they are not
    spec["added_tokens"] = [t for t in spec["added_tokens"] if t["content"] not in bytes_of]
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


MADE = {**TOKENIZERS, "gpt-like": gpt_like, "llama-like": llama_like, "tiny": make_tokenizer}
_TEXTS = st.lists(
    st.sampled_from([*WORDS.split(" "), " ", "\n", "\n\n", ".", "É", "中文", "12", "'s", '"', "\t", "a"]),
    max_size=6,
).map(" ".join) | st.text(max_size=8)
_KEPT: dict[tuple[str, bool], TextTokenizer] = {}


def kept(name: str, chat: bool) -> TextTokenizer:
    """One tokenizer for all examples, so that what is cached for one prompt is used in the next."""
    if (name, chat) not in _KEPT:
        hf = MADE[name]()
        hf.chat_template = CHAT if chat else None
        _KEPT[name, chat] = TextTokenizer(hf, name=name)
    return _KEPT[name, chat]


def whole(template: PromptTemplate, question: str, passages: list[Passage]) -> str:
    blocks = [
        template.passage.format(identifier=i + 1, title=p.title, text=p.text) for i, p in enumerate(passages)
    ]
    return template.user.format(question=question, passages="".join(blocks), n=len(passages), k=2, read="")


@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
@pytest.mark.parametrize("kind", ["selector", "generator", "tiny-generator"])
@pytest.mark.parametrize("name", sorted(MADE))
@settings(max_examples=30, deadline=None)
@given(question=_TEXTS, said=st.lists(st.tuples(_TEXTS, _TEXTS), min_size=1, max_size=4))
def test_a_prompt_has_the_ids_of_its_whole_text(
    name: str, kind: str, chat: bool, question: str, said: list[tuple[str, str]]
) -> None:
    text = kept(name, chat)
    template = load_template(kind)
    passages = [Passage(str(i), title, words) for i, (title, words) in enumerate(said)]
    asked = whole(template, question, passages)
    assume(not any(s in asked for s in ("<unk>", "<s>", "</s>")))
    if chat:
        turn = [{"role": "user", "content": asked}]
        expected = text.hf.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
    else:
        expected = text.hf(asked)["input_ids"]
    assert template.encode(text, question, passages, 2, ROOMY) == expected


@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
@pytest.mark.parametrize("name", sorted(MADE))
def test_an_output_goes_on_as_the_whole_text_does(name: str, chat: bool) -> None:
    text, template = kept(name, chat), load_template("generator")
    passages = [Passage("1", "Mara Voss", "Mara Voss works for Zorba.")]
    prompt = template.encode(text, "Where is it?", passages, 2, ROOMY)
    for answer in ("Zorba", "17 o'clock.", "[1] > [2]"):
        ids = text.continuation(template.output_border(text), template.output_start(text) + answer)
        asked = whole(template, "Where is it?", passages)
        if chat:
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            expected = text.hf.apply_chat_template(turns, return_dict=False)
            if name != "tiny":  # which has no such token
                assert text.end_id == text.hf.convert_tokens_to_ids("<|eot_id|>")
                ids = [*ids, text.end_id]
        else:
            expected = text.hf(f"{asked} {answer}")["input_ids"]
        assert expected[: len(prompt) + len(ids)] == [*prompt, *ids]


def test_lines_are_tokenised_once_and_a_vocabulary_that_crosses_newlines_is_noticed() -> None:
    """The second prompt of the same passages makes no more than a segment of new ids."""
    text, template = TextTokenizer(gpt_like(), name="x"), load_template("selector")
    passages = [Passage(str(i), f"Title {i}", f"Mara works for {i}.") for i in range(4)]
    template.encode(text, "where?", passages, 2, ROOMY)
    before = text._segment_cached.cache_info().misses
    template.encode(text, "who?", passages, 2, ROOMY)
    assert text._segment_cached.cache_info().misses - before <= 2
    across = Tokenizer(models.BPE(vocab={"x": 0, "\n": 1, "\nx": 2, "</s>": 3}, merges=[("\n", "x")]))
    other = TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=across, eos_token="</s>"), name="y")
    assert other.prompt([("x\n",), ("x",)]) == [0, 2]
