"""A JSON schema as a grammar, by llama.cpp's rules, within bounds: schemas are untrusted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from llama_cpp.llama_grammar import json_schema_to_gbnf

from franken_gguf.runner.sampling.settings import SamplingError

_MAX_NODES = 2_000
_MAX_CHARACTERS = 1 << 16
_MAX_COUNT = 1_000
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


def schema_grammar(schema: Mapping[str, Any]) -> str:
    """The GBNF grammar of the JSON values that match `schema`. Raises SamplingError."""
    if len(json.dumps(schema)) > _MAX_CHARACTERS:
        raise SamplingError(f"the JSON schema is longer than {_MAX_CHARACTERS} characters")
    for number, node in enumerate(_nodes(schema)):
        if number >= _MAX_NODES:
            raise SamplingError(f"the JSON schema has more than {_MAX_NODES} parts")
        for name in _COUNTS:
            count = node.get(name, 0)
            if isinstance(count, int | float) and count > _MAX_COUNT:
                raise SamplingError(f"the JSON schema: {name} is above {_MAX_COUNT}")
    try:
        return str(json_schema_to_gbnf(json.dumps(schema)))
    except RecursionError:
        raise SamplingError("the JSON schema refers to itself without end") from None
    except Exception as error:  # the converter raises whatever a wrong schema leads to
        reason = " ".join(f"{error}".split())[:200] or type(error).__name__
        raise SamplingError(f"the JSON schema cannot become a grammar: {reason}") from None


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
