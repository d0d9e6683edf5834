"""Texts that a request may hold, and what all requests have in common."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from actors.core.events import MAX_QUERY_CHARACTERS

_CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_HAS_CONTROL = re.compile(f"[{_CONTROL}]")


def _printable(value: str) -> str:
    if _HAS_CONTROL.search(value):
        raise ValueError("holds control characters")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank")
    return value


# The patterns are for the document alone: the functions say better what is wrong.
Printable = Annotated[str, AfterValidator(_printable), Field(json_schema_extra={"pattern": f"^[^{_CONTROL}]*$"})]
QueryText = Annotated[
    str,
    Field(min_length=1, max_length=MAX_QUERY_CHARACTERS, json_schema_extra={"pattern": f"^[^{_CONTROL}]*[!-~][^{_CONTROL}]*$"}),
    AfterValidator(_printable),
    AfterValidator(_not_blank),
]


class Body(BaseModel):
    """A request, or a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
