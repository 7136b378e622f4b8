"""What every settings class is: frozen, and closed to keys that do not exist."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of all config sections; unknown keys and values out of range are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
