"""The day that chat templates take for today's, fixed in the config so that a run ends as it began."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragdro.config import Config


def with_prompt_date(config: Config, today: date) -> Config:
    """The config with `today` for `prompt_date` of each role that has none: what a run folder is to hold."""
    return config.model_copy(
        update={
            role: settings.model_copy(update={"prompt_date": settings.prompt_date or today})
            for role, settings in config.roles.items()
        }
    )
