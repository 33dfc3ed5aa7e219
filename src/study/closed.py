"""Frozen data that takes no unknown key: the base of the learners' hyper-parameters and of the sections of params.yaml."""

from pydantic import BaseModel, ConfigDict, model_validator


class Closed(BaseModel):
    """Validation names each unknown key and the valid ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_key(cls, fields):
        unknown = [str(key) for key in fields if key not in cls.model_fields] if isinstance(fields, dict) else []
        if unknown:
            raise ValueError(f"unknown key {', '.join(unknown)}; valid keys: {', '.join(cls.model_fields)}")
        return fields
