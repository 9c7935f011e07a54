"""The two bases of every schema: strict for what users send, frozen for what we answer."""

from pydantic import BaseModel, ConfigDict


class Request(BaseModel):
    """Something a user sends: unknown fields are an error, not a typo passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """Something we send: readers ignore fields they do not know, so answers may grow."""

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="null")
