"""inspect: the header alone tells what a model weighs, holds and works with."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from franken_gguf.quantize.gguf_file.encode import encode_header, padded
from franken_gguf.quantize.gguf_file.values import Metadata, Value, array, f32, string, u32
from franken_gguf.runner.cli import main
from support.models import smollm2


def inspect(*words: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, words)])


def sparse_mixtral(path: Path, experts: int, metadata: Metadata | None = None) -> Path:
    """Tens of gigabytes in Mixtral-8x7B's shapes, of which only the header is real."""
    hidden, ff, vocab, kv = 4096, 14336, 32000, 1024
    q4, f = GGMLQuantizationType.Q4_0, GGMLQuantizationType.F32
    shapes: dict[str, tuple[tuple[int, ...], GGMLQuantizationType]] = {
        "token_embd.weight": ((vocab, hidden), q4),
        "output.weight": ((vocab, hidden), q4),
        "output_norm.weight": ((hidden,), f),
    }
    for n in range(32):
        shapes |= {
            f"blk.{n}.attn_q.weight": ((hidden, hidden), q4),
            f"blk.{n}.attn_k.weight": ((kv, hidden), q4),
            f"blk.{n}.attn_v.weight": ((kv, hidden), q4),
            f"blk.{n}.attn_output.weight": ((hidden, hidden), q4),
            f"blk.{n}.attn_norm.weight": ((hidden,), f),
            f"blk.{n}.ffn_norm.weight": ((hidden,), f),
            f"blk.{n}.ffn_gate_inp.weight": ((experts, hidden), f),
            f"blk.{n}.ffn_gate_exps.weight": ((experts, ff, hidden), q4),
            f"blk.{n}.ffn_up_exps.weight": ((experts, ff, hidden), q4),
            f"blk.{n}.ffn_down_exps.weight": ((experts, hidden, ff), q4),
        }
    table, offset = [], 0
    for name, (shape, kind) in shapes.items():
        table.append((name, shape, kind, offset))
        block_len, block_bytes = GGML_QUANT_SIZES[kind]
        offset += padded(prod(shape) // block_len * block_bytes)
    keys: Metadata = {
        "general.architecture": string("llama"),
        "llama.block_count": u32(32),
        "llama.context_length": u32(32768),
        "llama.expert_count": u32(experts),
        "llama.expert_used_count": u32(2),
    }
    header = encode_header(keys | (metadata or {}), table)
    path.write_bytes(header)
    with path.open("rb+") as file:
        file.truncate(len(header) + offset)
    return path


@pytest.mark.parametrize(
    ("experts", "memory", "work"),
    [(8, 46_702_792_704, 12_879_925_248), (4, 24_153_690_112, 12_879_400_960)],
)
def test_parameters_are_counted_in_memory_and_in_work(
    tmp_path: Path, experts: int, memory: int, work: int
) -> None:
    document = json.loads(inspect(sparse_mixtral(tmp_path / "m.gguf", experts), "--json").stdout)
    assert (document["parameters"], document["active_parameters"]) == (memory, work)
    assert (document["experts"], document["experts_used"]) == (experts, 2)


def test_a_4x7b_is_24_b_in_memory_and_13_b_in_work(tmp_path: Path) -> None:
    result = inspect(sparse_mixtral(tmp_path / "m.gguf", 4))
    assert "24.2 B in memory, 12.9 B active for each token" in result.stdout
    assert "4, 2 active for each token" in result.stdout


def test_groups_add_up_to_the_model(tmp_path: Path) -> None:
    document = json.loads(inspect(sparse_mixtral(tmp_path / "m.gguf", 4), "--json").stdout)
    groups = {group["name"]: group for group in document["groups"]}
    assert set(groups) == {"experts", "attention", "embeddings", "router", "norms"}
    assert sum(group["parameters"] for group in groups.values()) == document["parameters"]
    assert groups["router"]["types"] == {"F32": 32}
    assert groups["experts"]["tensors"] == 96
    assert groups["experts"]["nbytes"] == 96 * 4 * 4096 * 14336 * 18 // 32
    nbytes = sum(group["nbytes"] for group in groups.values())
    assert document["bits_per_weight"] == 8 * nbytes / document["parameters"]


def test_a_dense_model_says_so() -> None:
    document = json.loads(inspect(smollm2(), "--json").stdout)
    assert document["parameters"] == document["active_parameters"] == 134_515_008
    assert document["experts"] == 0
    assert document["types"] == {"Q4_1": 210, "F32": 61, "Q8_0": 1}
    assert document["metadata"]["tokenizer.ggml.tokens"]["items"] == 49152
    assert document["metadata"]["llama.attention.layer_norm_rms_epsilon"] == 1e-05
    assert "none (dense)" in inspect(smollm2()).stdout


def test_json_stays_json_whatever_the_metadata(tmp_path: Path) -> None:
    nasty: Metadata = {
        "nan": f32(float("nan")),
        "infinite": array(GGUFValueType.FLOAT32, [float("inf"), 0.1]),
        "double": Value(GGUFValueType.FLOAT64, 0.1),
        "no.utf8": Value(GGUFValueType.STRING, b"\xff\x1b[2J"),
        "control": string("\x1b]0;owned\x07\u202e\r\n"),
    }
    path = sparse_mixtral(tmp_path / "m.gguf", 2, nasty)
    result = inspect(path, "--json")
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert document["metadata"]["nan"] == "nan"
    assert document["metadata"]["infinite"] == ["inf", 0.1]
    assert document["metadata"]["double"] == 0.1
    assert document["metadata"]["no.utf8"] == "\\xff\x1b[2J"


def test_nothing_in_a_file_steers_the_terminal(tmp_path: Path) -> None:
    nasty: Metadata = {
        "general.name": string("Bobby\x1b[2J\x1b]0;owned\x07"),
        "evil\x1b[31mkey": string("a\rb\nc\u202ed\x9bm"),
        "markup": string("[red]not red[/red] [link=http://x]x[/link]"),
        "tokens": array(GGUFValueType.STRING, ["\x1b[1m", "\x00"]),
    }
    result = inspect(sparse_mixtral(tmp_path / "m.gguf", 2, nasty))
    assert result.exit_code == 0
    assert not set(result.stdout) & {"\x1b", "\x07", "\r", "\u202e", "\x9b", "\x00"}
    assert "a\\rb\\nc\\u202ed\\x9bm" in result.stdout
    assert "[red]not red[/red]" in result.stdout


def test_a_number_that_is_text_is_an_error_and_not_a_traceback(tmp_path: Path) -> None:
    path = sparse_mixtral(tmp_path / "m.gguf", 2, {"llama.expert_count": string("many")})
    result = inspect(path)
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"Error: {path}: metadata key 'llama.expert_count' is missing or not an integer\n"
    )


def test_a_file_that_is_not_a_gguf_is_reported_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text("once")
    result = inspect(path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {path}: not a GGUF file (it does not start with 'GGUF')\n"
