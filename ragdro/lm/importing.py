"""Pretrained weights from wherever they are into a plain Hugging Face folder that every command here reads.

In: a GGUF file, a checkpoint folder or a hub name. Out: a new folder with safetensors, config, generation
config, tokenizer and chat template, whole or absent. Quantised GGUF weights are unpacked to the numbers that
they stand for, so that they can be trained.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from ragdro.access import absent, unwritten
from ragdro.errors import ConfigError, ModelError
from ragdro.files import atomic_folder, finish_files
from ragdro.hub import find_checkpoint
from ragdro.lm.adapters import ADAPTER_FILE
from ragdro.lm.load import DTYPES, first_line, refuse_gaps, unreadable
from ragdro.lm.tokens import TextTokenizer
from ragdro.sources import resolve

WeightsDtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
_MAGIC = b"GGUF"
_QUANTISED = ("hf_quantizer", "is_quantized", "quantization_method")
"""What a model that came out of a GGUF file is marked with, and cannot be saved with."""


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """What was written: the folder, how many weights of which dtype, and whether there is a chat template."""

    folder: Path
    weights: int
    dtype: str
    has_chat_template: bool


def import_model(
    source: str | Path, out: Path, *, dtype: WeightsDtype = "float32", revision: str | None = None
) -> ImportedModel:
    """Write the causal LM in `source` to the new folder `out`.

    `source`: a `.gguf` file, a folder with one or with a checkpoint, a hub name, or a `tiny:` name.
    `dtype`: of the weights written. `revision`: of the hub. Raises `ConfigError` where `out` holds something
    or the `gguf` package is missing, `ModelError` naming the source for what cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: exists and is not empty; give a new folder")
    name = str(source)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # What it would warn of is refused here, in one line.
    try:
        gguf = _gguf_file(Path(resolve(name)))
        hf, tokenizer = _from_checkpoint(name, revision) if gguf is None else _from_gguf(gguf)
    finally:
        transformers_logging.set_verbosity(verbosity)
    TextTokenizer(tokenizer, name=name)  # Refuses one without an end token.
    hf = hf.to(DTYPES[dtype])
    _save(hf, tokenizer, out)
    weights = sum(p.numel() for p in hf.parameters())
    return ImportedModel(out, weights, dtype, bool(tokenizer.chat_template))


def _gguf_file(path: Path) -> Path | None:
    """The GGUF file that `path` is, or is the only model in; None where it is no such thing."""
    if path.is_dir() and not (path / "config.json").is_file():
        files = sorted(path.glob("*.gguf"))
        if len(files) > 1:
            raise ModelError(f"{path}: holds {len(files)} GGUF files; name one of them")
        return files[0] if files else None
    return path if path.suffix == ".gguf" or path.is_file() else None


def _from_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if not file.is_file():
        raise ModelError(f"{file}: {absent(file)}")
    with file.open("rb") as opened:
        if opened.read(len(_MAGIC)) != _MAGIC:
            raise ModelError(f"{file}: no GGUF file; give a .gguf file, a checkpoint folder or a hub name")
    if find_spec("gguf") is None:
        raise ConfigError(f"{file}: GGUF files need gguf; install it with pip install 'ragdro[gguf]'")
    reader = _read_whole(file)
    with unreadable(f"{file}: cannot be imported"):
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        _begin_and_end(tokenizer, reader)
        hf, report = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=DTYPES["float32"], output_loading_info=True
        )
    refuse_gaps(str(file), report)
    for mark in _QUANTISED:
        vars(hf).pop(mark, None)
    if hasattr(hf.config, "quantization_config"):
        del hf.config.quantization_config
    return hf, tokenizer


def _begin_and_end(tokenizer: Any, reader: Any) -> None:
    """Have texts begin and end with the tokens that the file says, which transformers leaves out."""
    for flag, token, place in (
        ("add_bos_token", tokenizer.bos_token_id, 0),
        ("add_eos_token", tokenizer.eos_token_id, -1),
    ):
        field = reader.get_field(f"tokenizer.ggml.{flag}")
        if field is None or token is None:
            continue
        if bool(field.contents()) != (tokenizer("a")["input_ids"][place] == token):
            setattr(tokenizer, flag, bool(field.contents()))
            tokenizer.update_post_processor()


def _read_whole(file: Path) -> Any:
    """A reader of the file. Raises `ModelError` for a GGUF file that is damaged or cut short, and for one of
    several parts."""
    from gguf import GGUFReader

    try:
        reader: Any = GGUFReader(file)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError, struct.error) as error:
        raise ModelError(f"{file}: damaged: {first_line(error)}; fetch it again") from error
    count = reader.get_field("split.count")
    parts = 1 if count is None else int(count.contents())
    if parts > 1:
        raise ModelError(f"{file}: one of {parts} parts; merge them first (llama-gguf-split --merge)")
    return reader


def _from_checkpoint(name: str, revision: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    checkpoint = find_checkpoint(name, revision)
    if (Path(checkpoint.path) / ADAPTER_FILE).is_file():
        raise ModelError(f"{name}: an adapter, not a whole model; `ragdro export` merges it into one")
    with unreadable(f"{name}: cannot be imported"):
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.path, revision=revision, local_files_only=checkpoint.local
        )
        hf, report = AutoModelForCausalLM.from_pretrained(
            checkpoint.path,
            revision=revision,
            local_files_only=checkpoint.local,
            dtype=DTYPES["float32"],
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    refuse_gaps(name, report)
    return hf, tokenizer


def _save(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Raises `OSError` where the disk refuses."""
    try:
        with atomic_folder(out) as making:
            hf.save_pretrained(making)
            tokenizer.save_pretrained(making)
            finish_files(making)
    except SafetensorError as error:
        raise unwritten(error, out) from error
