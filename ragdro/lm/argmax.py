"""Greedy decoding that is the argmax of the model, whatever a checkpoint's generation config says.

`generate` fills every field that a caller leaves open from the checkpoint's `generation_config.json`:
penalties, suppressed and forced tokens, beams, least lengths. Those are advice to who chats with the model;
here an answer is argmax p(y|x,d_z). The file itself stays with the model and is saved with it.
"""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig


class Argmax(GenerationConfig):  # type: ignore[misc]
    """Settings of `generate` that take nothing from the model's own: what is not given is the library's
    default, under which nothing is sampled, penalised, suppressed or forced."""

    def update(
        self, defaults_only: bool = False, allow_custom_entries: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """As the library's; a model's own values, which come as `allow_custom_entries`, are left out."""
        if allow_custom_entries:
            return kwargs
        if defaults_only:  # the library's own length, which it would then call a second one besides ours
            kwargs.pop("max_length", None)
        unused: dict[str, Any] = super().update(defaults_only=defaults_only, **kwargs)
        return unused
