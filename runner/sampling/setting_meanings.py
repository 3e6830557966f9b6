"""What each sampling setting does and its range, for a screen. Pure."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .settings import RANGES, Sampling

MEANINGS = {
    "temperature": "Higher is more varied; 0 always takes the most likely token.",
    "dynatemp_range": "Vary the temperature by this much, lower where the model is sure; 0 is off.",
    "dynatemp_exponent": "How fast that follows the model's uncertainty.",
    "top_k": "Keep this many of the most likely tokens; 0 keeps all.",
    "top_p": "Keep the most likely tokens that together reach this probability; 1 keeps all.",
    "min_p": "Minimum probability relative to the most likely token; 0 keeps all.",
    "typical_p": "Keep tokens close to the expected surprise, up to this probability; 1 keeps all.",
    "top_n_sigma": "Keep logits within this many standard deviations of the highest; -1 is off.",
    "xtc_probability": "Probability of removing the most likely tokens; 0 is off.",
    "xtc_threshold": "Tokens above this probability are removed, except the least likely of them.",
    "dry_multiplier": "Strength of the penalty on repeated passages; 0 is off.",
    "dry_base": "How fast that penalty grows with the length of the passage.",
    "dry_allowed_length": "Longest passage in tokens that may be repeated freely.",
    "dry_penalty_last_n": "Tokens to search for passages; -1 is the whole context.",
    "dry_sequence_breakers": "Texts that end a repeated passage.",
    "repeat_penalty": "Divides the logits of recent tokens; 1 is off.",
    "frequency_penalty": "Subtracted for each time that a token occurred recently; 0 is off.",
    "presence_penalty": "Subtracted once if a token occurred recently; 0 is off.",
    "repeat_last_n": "Recent tokens for these three penalties; -1 is the whole context.",
    "mirostat": "Version of Mirostat, 1 or 2, which replaces most other samplers; 0 is off.",
    "mirostat_tau": "Surprise in bits that Mirostat aims at.",
    "mirostat_eta": "How fast Mirostat adapts.",
    "samplers": "Samplers to use, in this order.",
    "seed": "The same seed gives the same answer; 4294967295 is a new one every time.",
}
"""What each setting does, for a screen."""


def setting_ranges() -> list[dict[str, Any]]:
    """All settings but the grammar and the biases: name, kind, range, default and meaning."""
    kinds = {int: "whole", float: "number", str: "text", tuple: "list"}
    found: list[dict[str, Any]] = []
    for field in fields(Sampling):
        if field.name in ("grammar", "logit_bias"):
            continue
        default = getattr(Sampling, field.name)
        low, high = RANGES.get(field.name, (None, None))
        found.append(
            {
                "name": field.name,
                "kind": kinds[type(default)],
                "low": low,
                "high": high,
                "default": default,
                "meaning": MEANINGS[field.name],
            }
        )
    return found
