"""The JSON documents of `franken-gguf convert` and of `inspect --verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from franken_gguf.quantize.convert import Result
from franken_gguf.quantize.output.estimate import Estimate
from franken_gguf.quantize.output.output import Output, type_counts
from franken_gguf.quantize.output.verify import TensorCheck
from franken_gguf.quantize.target_size.frontier import FrontierPoint
from franken_gguf.quantize.target_size.target import Fitted


def planned(
    outputs: Sequence[Output],
    expected: Estimate,
    sizes: Sequence[FrontierPoint] = (),
    fitted: Sequence[Fitted] = (),
) -> dict[str, Any]:
    """A dry run: the planned outputs with their tensors, the expected cost, and the frontier.

    `fitted` are the types of the last outputs.
    """
    document = {
        "outputs": [
            described(output) | _prediction(output, fitted) | {"tensors": _tensors(output)}
            for output in outputs
        ],
        "expected": asdict(expected),
    }
    return document | ({"frontier": [asdict(point) for point in sizes]} if sizes else {})


def written(
    outputs: Sequence[Output], result: Result, fitted: Sequence[Fitted] = ()
) -> dict[str, Any]:
    """A finished conversion; `fitted` are the types of the last outputs."""
    documents = []
    for output in outputs:
        document = described(output) | _prediction(output, fitted)
        if output.path in result.checks:
            document["checks"] = [checked(check) for check in result.checks[output.path]]
        documents.append(document)
    return {
        "outputs": documents,
        "workers": result.share.workers,
        "seconds": result.seconds,
    }


def _prediction(output: Output, fitted: Sequence[Fitted]) -> dict[str, Any]:
    """What is expected of an output whose types were chosen for its size; {} for the others."""
    for one in fitted:
        if one.preset.name == output.preset.name:
            return {
                "predicted_kl_divergence": one.divergence,
                "tensor_type_options": one.options,
            }
    return {}


def described(output: Output) -> dict[str, Any]:
    """One output: its files, size, types, and tensors that fell back to another type."""
    return {
        "path": str(output.path),
        "files": [str(shard.path) for shard in output.shards],
        "type": output.preset.name,
        "bytes": output.nbytes,
        "bits_per_weight": output.bits_per_weight,
        "tensor_types": type_counts(output),
        "refined_share": output.refined_share,
        "fallbacks": [
            {"tensor": t.source.name, "wanted": t.choice.wanted.name, "type": t.choice.type.name}
            for t in output.tensors
            if t.choice.fell_back
        ],
    }


def checked(check: TensorCheck) -> dict[str, Any]:
    """One tensor compared with its source; errors relative to the root mean square."""
    return {
        "tensor": check.name,
        "type": check.type.name,
        "rmse": check.rmse,
        "expected_rmse": check.expected_rmse,
        "largest": check.largest,
        "expected_largest": check.expected_largest,
    }


def _tensors(output: Output) -> list[dict[str, Any]]:
    return [
        {
            "name": tensor.source.name,
            "shape": list(tensor.source.shape),
            "from": tensor.source.stored.name,
            "type": tensor.choice.type.name,
            "bytes": tensor.nbytes,
        }
        for tensor in output.tensors
    ]
