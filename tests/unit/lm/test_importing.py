"""Models read out of GGUF files and folders, against the models that were written into them here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from ragdro.cli import app
from ragdro.errors import ConfigError, ModelError, RagdroError
from ragdro.lm import importing
from ragdro.lm.importing import import_model
from ragdro.lm.model import LanguageModel
from tests.conftest import byte_level, random_model

CHAT = "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}"
_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    path: Path,
    model: LanguageModel,
    chat: str | None = CHAT,
    architecture: str = "llama",
    begins: bool | None = None,
    **extra: int,
) -> Path:
    """As the format's page has it: rotary halves interleaved, tokens spelled as in the vocabulary."""
    config, hf = model.hf.config, model.tokenizer.hf
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    for key, value in extra.items():
        writer.add_uint16(key.replace("__", "."), value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    vocabulary = sorted(hf.get_vocab().items(), key=lambda entry: entry[1])
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if i in hf.all_special_ids else 1 for _, i in vocabulary])
    writer.add_token_merges(
        [" ".join(pair) for pair in json.loads(hf._tokenizer.to_str())["model"]["merges"]]
    )
    writer.add_bos_token_id(hf.bos_token_id)
    writer.add_eos_token_id(hf.eos_token_id)
    if begins is not None:
        writer.add_add_bos_token(begins)
    if chat is not None:
        writer.add_chat_template(chat)
    for name, tensor in model.hf.state_dict().items():
        values = tensor.numpy()
        heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
        for which, count in heads.items():
            if f"{which}_proj" in name:
                halves = values.reshape(count, 2, config.head_dim // 2, -1)
                values = halves.swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(_gguf_name(name), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_name(name: str) -> str:
    whole = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_NAMES[rest.removesuffix('.weight')]}.weight"


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return random_model(byte_level(), tie_word_embeddings=False)


@pytest.fixture
def file(model: LanguageModel, tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "small.gguf", model)


@torch.no_grad()
def test_a_gguf_file_becomes_the_folder_of_the_same_model(
    model: LanguageModel, file: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, ["model", "import", str(file), str(tmp_path / "out")])
    assert done.exit_code == 0 and "M weights in float32" in done.stdout and "plain text" not in done.stdout
    hf = AutoModelForCausalLM.from_pretrained(tmp_path / "out", use_safetensors=True)
    assert "quantization_config" not in json.loads((tmp_path / "out/config.json").read_text())
    ids = torch.arange(5, 45)[None]
    assert torch.allclose(hf(ids).logits, model.hf(ids).logits, atol=1e-5)
    assert hf.generation_config.eos_token_id == model.tokenizer.hf.eos_token_id
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "Mara Voss works for Zorba [17].\nNear the sea</s>"
    assert tokenizer.chat_template == CHAT
    assert tokenizer(text)["input_ids"] == model.tokenizer.hf(text)["input_ids"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "small.gguf"]


@pytest.mark.parametrize("begins", [True, False])
def test_texts_begin_as_the_file_says(begins: bool, model: LanguageModel, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "small.gguf", model, begins=begins)
    import_model(file, tmp_path / "out")
    tokenizer, own = AutoTokenizer.from_pretrained(tmp_path / "out"), model.tokenizer.hf
    text = "Mara Voss works for Zorba."
    first = [own.bos_token_id] if begins else []
    assert tokenizer(text)["input_ids"] == first + own(text, add_special_tokens=False)["input_ids"]
    assert (
        tokenizer(text, add_special_tokens=False)["input_ids"] == tokenizer(text)["input_ids"][len(first) :]
    )


def test_a_folder_is_imported_in_another_dtype_and_a_folder_with_one_gguf_as_the_file(
    model: LanguageModel, file: Path, tmp_path: Path
) -> None:
    made = import_model(file.parent, tmp_path / "out")
    again = import_model(made.folder, tmp_path / "half", dtype="bfloat16")
    assert again.weights == made.weights == sum(p.numel() for p in model.hf.parameters())
    one, half = (AutoModelForCausalLM.from_pretrained(m.folder, dtype="auto") for m in (made, again))
    assert half.dtype == torch.bfloat16
    for a, b in zip(one.parameters(), half.parameters(), strict=True):
        assert torch.equal(a.bfloat16(), b)
    assert AutoTokenizer.from_pretrained(again.folder).chat_template == CHAT


def test_a_file_without_a_chat_template_says_so(model: LanguageModel, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "plain.gguf", model, chat=None)
    done = CliRunner().invoke(app, ["model", "import", str(file), str(tmp_path / "out")])
    assert done.exit_code == 0 and "no chat template" in done.stdout


@pytest.mark.parametrize("kept", [10, 300, 3_000, 20_000, -2_000, -1])
def test_a_file_that_is_cut_short_is_refused_and_leaves_nothing(
    kept: int, file: Path, tmp_path: Path
) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"small\.gguf: ") as caught:
        import_model(file, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["small.gguf"]


@pytest.mark.parametrize("at", range(8, 200, 16))
def test_a_damaged_header_is_refused_or_read_but_never_a_traceback(
    at: int, file: Path, tmp_path: Path
) -> None:
    broken = bytearray(file.read_bytes())
    broken[at : at + 8] = b"\xff" * 8
    file.write_bytes(broken)
    try:
        import_model(file, tmp_path / "out")
    except RagdroError as error:
        assert str(error).startswith(str(file)) and not (tmp_path / "out").exists()


def test_a_merge_of_no_token_is_refused_by_name(file: Path, tmp_path: Path) -> None:
    """The tokenizers library raises a bare Exception there."""
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"Mar a", b"Mar X"))
    assert file.read_bytes() != whole
    with pytest.raises(ModelError, match=r"small\.gguf: cannot be imported: .*out of vocabulary"):
        import_model(file, tmp_path / "out")


def test_what_cannot_be_imported_is_refused_by_name(
    model: LanguageModel, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ModelError, match=r"odd\.gguf: .*nonesuch"):
        import_model(write_gguf(tmp_path / "odd.gguf", model, architecture="nonesuch"), out)
    with pytest.raises(ModelError, match=r"part\.gguf: one of 3 parts"):
        import_model(write_gguf(tmp_path / "part.gguf", model, split__count=3), out)
    with pytest.raises(ModelError, match="holds 3 GGUF files"):
        import_model(tmp_path, out)
    with pytest.raises(ModelError, match=r"none\.gguf: no such file"):
        import_model(tmp_path / "none.gguf", out)
    with pytest.raises(ModelError, match="none: no such checkpoint folder"):
        import_model(tmp_path / "none", out)
    (tmp_path / "words.txt").write_text("hello")
    with pytest.raises(ModelError, match=r"words\.txt: no GGUF file"):
        import_model(tmp_path / "words.txt", out)
    monkeypatch.setattr(importing, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'ragdro\[gguf\]'"):
        import_model(file, out)
    assert not out.exists()


def test_a_folder_that_holds_something_is_left_alone(file: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="not empty"):
        import_model(file, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_folder_that_lacks_weights_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    kept = {k: v for k, v in model.hf.state_dict().items() if "layers.1.mlp" not in k}
    model.hf.save_pretrained(tmp_path / "gaps", state_dict=kept)
    model.tokenizer.hf.save_pretrained(tmp_path / "gaps")
    with pytest.raises(ModelError, match=r"gaps: the checkpoint lacks weights: model\.layers\.1\.mlp"):
        import_model(tmp_path / "gaps", tmp_path / "out")
