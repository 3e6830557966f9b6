"""Which family a recipe makes: mergekit-moe's rules, by the models that it names. Pure.

    Mixtral        Llama or Mistral models, no shared expert
    DeepSeek MoE   Llama or Mistral models, one shared expert without prompts
    Qwen MoE       Qwen2, Llama or Mistral models, one shared expert with prompts for its gate
    Qwen3 MoE      Qwen3 models, no shared expert

The recipe's `architecture` is the start of one of these names. Without it the first that the
recipe fits is made. mergekit-moe also makes a DeepSeek without a shared expert, which llama.cpp
cannot run, and does not mix Llama with Mistral models, which are of one architecture here.
"""

from __future__ import annotations

from collections.abc import Sequence

from franken_gguf.quantize.checkpoint.families.family import Experts, Family, MergeOutput
from franken_gguf.quantize.checkpoint.families.table import FAMILIES
from franken_gguf.quantize.common.errors import MergeError, shown

from .recipe_file import RANDOM, UNIFORM_RANDOM, MergeRecipe
from .source_models import Model


def outputs() -> list[tuple[Family, Experts, MergeOutput]]:
    """The families that a merge can make."""
    return [
        (family, family.experts, family.merge)
        for family in FAMILIES.values()
        if family.experts is not None and family.merge is not None
    ]


def output_family(recipe: MergeRecipe, models: Sequence[Model]) -> Family:
    """The family of the mixture of `models`, those of the recipe. Raises MergeError."""
    wanted = (recipe.architecture or "").lower()
    named = [each for each in outputs() if each[2].name.lower().startswith(wanted)]
    if not named:
        names = ", ".join(merge.name for _, _, merge in outputs())
        raise MergeError(
            f"{recipe.path}: architecture: {shown(recipe.architecture)} is not supported; write "
            f"one of {names}"
        )
    kinds = list(dict.fromkeys(model.architecture for model in models))
    candidates = [each for each in named if len(kinds) == 1 and kinds[0] in _bases(each[2])]
    if not candidates:
        names = " or ".join(merge.name for _, _, merge in named)
        raise MergeError(
            f"{recipe.path}: {names} cannot be made of {' and '.join(kinds)} models; use "
            "models of one family, and the architecture of its mixtures"
        )
    reasons = []
    for family, experts, merge in candidates:
        reason = _misfit(recipe, experts, merge)
        if reason is None:
            return family
        reasons.append(f"{merge.name} {reason}")
    raise MergeError(f"{recipe.path}: {'; '.join(reasons)}")


def _bases(merge: MergeOutput) -> set[str]:
    """llama.cpp's architectures of the models that can be merged."""
    known = {family.model_type: family.architecture for family in FAMILIES.values()}
    return {known[base] for base in merge.bases}


def _misfit(recipe: MergeRecipe, experts: Experts, merge: MergeOutput) -> str | None:
    """Why the recipe does not fit, whatever its models are; None if it does."""
    least, most = merge.shared_experts
    if not least <= len(recipe.shared) <= most:
        return "takes no shared_experts" if most == 0 else "needs one entry in shared_experts"
    if experts.shared is None:
        return None
    has_prompts = any(expert.positive or expert.negative for expert in recipe.shared)
    if experts.shared.gate is None and has_prompts:
        return "has no gate for its shared expert, so that one takes no prompts"
    without = recipe.gate_mode in (RANDOM, UNIFORM_RANDOM)
    if experts.shared.gate and not without and not all(e.positive for e in recipe.shared):
        return "needs positive_prompts for the shared expert's gate"
    return None
