"""The engine with the real SmolLM2: its tokens, its reuse of the context, its errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import llama_cpp as lib

from franken_gguf.quantize.common.errors import FrankenError, GGUFError
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.common.hardware import available_memory, total_memory
from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.vocabulary import load_vocabulary
from franken_gguf.runner.sampling.settings import Sampling
from support.models import patched_smollm2, smollm2

GREEDY = Sampling(temperature=0)
STORY = "Once upon a time, in a harbour town,"
# One thread: two test processes share the machine, and llama.cpp's threads wait by spinning.
SMALL = LoadOptions(n_ctx=512, n_threads=1, n_gpu_layers=0)


def loaded(options: LoadOptions = SMALL) -> Engine:
    return Engine(read_header(smollm2()), options)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with loaded() as engine:
        yield engine


def bare_greedy(tokens: list[int], count: int) -> list[int]:
    """The likeliest tokens by llama_decode and argmax alone."""
    model = lib.llama_model_load_from_file(
        str(smollm2()).encode(), lib.llama_model_default_params()
    )
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_threads, params.n_threads_batch = 512, 1, 1
    params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it rounds otherwise
    context = lib.llama_init_from_model(model, params)
    size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    found: list[int] = []
    while len(found) < count:
        array = (lib.llama_token * len(tokens))(*tokens)
        assert lib.llama_decode(context, lib.llama_batch_get_one(array, len(tokens))) == 0
        logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), (size,))
        found.append(int(logits.argmax()))
        tokens = found[-1:]
    lib.llama_free(context)
    lib.llama_model_free(model)
    return found


def test_a_vocabulary_alone_knows_special_tokens_and_adds_none() -> None:
    with load_vocabulary(smollm2()) as vocabulary:
        assert vocabulary.size == 49152
        assert vocabulary.tokenize("") == []
        assert vocabulary.tokenize("<|im_start|>user\n Hello<|im_end|>") == [1, 4093, 198, 38699, 2]
        assert vocabulary.ends_answer(2)
        assert not vocabulary.ends_answer(198)


@pytest.mark.parametrize("text", ["naïve 漢字 🙂\t\n  x\0y", "12345 def f(): return '<s>'"])
def test_the_pieces_of_a_text_are_its_bytes(engine: Engine, text: str) -> None:
    vocabulary = engine.vocabulary
    assert b"".join(map(vocabulary.piece, vocabulary.tokenize(text))) == text.encode()


def test_control_tokens_have_no_text(engine: Engine) -> None:
    assert engine.vocabulary.piece(2) == b""


def test_a_greedy_answer_is_the_bare_loops(engine: Engine) -> None:
    prompt = engine.vocabulary.prompt(STORY)
    assert list(engine.generate(prompt, GREEDY, 24)) == bare_greedy(prompt, 24)


def test_a_longer_prompt_evaluates_only_its_new_tokens(engine: Engine) -> None:
    # Numbers, since no other token comes near: how many tokens are evaluated at once moves the
    # last bits, and with them the choice between two that are as likely.
    prompt = engine.vocabulary.prompt("1, 2, 3, 4, 5, 6,")
    answer = list(engine.generate(prompt, GREEDY, 9))
    new = engine.vocabulary.tokenize(" 10, 11, 12,")
    second = engine.generate([*prompt, *answer, *new], GREEDY, 8)
    tokens = list(second)
    # The last token of an answer is drawn, not evaluated.
    assert second.prompt_evaluated == len(new) + 1
    with loaded() as fresh:
        assert list(fresh.generate([*prompt, *answer, *new], GREEDY, 8)) == tokens


def test_the_same_prompt_again_evaluates_one_token_and_answers_the_same(engine: Engine) -> None:
    prompt = engine.vocabulary.prompt("The moon is")
    first = list(engine.generate(prompt, GREEDY, 8))
    again = engine.generate(prompt, GREEDY, 8)
    assert list(again) == first
    assert again.prompt_evaluated == 1


def test_two_answers_written_by_turns_are_those_of_each_alone(engine: Engine) -> None:
    prompts = [engine.vocabulary.prompt(text) for text in (STORY, "The capital of France is")]
    alone = [list(engine.generate(prompt, GREEDY, 6)) for prompt in prompts]
    both = [engine.generate(prompt, GREEDY, 6) for prompt in prompts]
    assert list(zip(*both, strict=True)) == list(zip(*alone, strict=True))


def test_a_seed_gives_its_answer_again_and_another_seed_another(engine: Engine) -> None:
    prompt = engine.vocabulary.prompt(STORY)
    one, same, other = (
        list(engine.generate(prompt, Sampling(temperature=1.5, seed=seed), 16))
        for seed in (7, 7, 8)
    )
    assert one == same
    assert one != other


def test_a_repeat_penalty_sees_the_prompt(engine: Engine) -> None:
    prompt = engine.vocabulary.prompt("one two three one two three one two three one two")
    (three,) = engine.vocabulary.tokenize(" three")
    assert list(engine.generate(prompt, GREEDY, 1)) == [three]
    assert list(engine.generate(prompt, Sampling(temperature=0, repeat_penalty=5.0), 1)) != [three]


def test_an_answer_ends_at_its_token_limit_with_finish_length(engine: Engine) -> None:
    answer = engine.generate(engine.vocabulary.prompt(STORY), GREEDY, 5)
    assert len(list(answer)) == answer.tokens == 5
    assert answer.finish == "length"
    assert answer.tokens_per_second > 0


def test_an_answer_ends_when_the_context_is_full_with_finish_context() -> None:
    with loaded(LoadOptions(n_ctx=32, n_threads=1, n_gpu_layers=0)) as small:
        prompt = small.vocabulary.prompt(STORY)
        answer = small.generate(prompt, GREEDY)
        assert len(prompt) + len(list(answer)) == 32
        assert answer.finish == "context"


def test_a_prompt_that_fills_the_context_is_refused_with_the_numbers(engine: Engine) -> None:
    with pytest.raises(EngineError, match="the prompt is 512 tokens, the context 512; shorten it"):
        engine.generate([198] * 512, GREEDY)
    with pytest.raises(EngineError, match="empty"):
        engine.generate([], GREEDY)


def test_a_stop_ends_an_answer_and_the_next_one_is_right(engine: Engine) -> None:
    prompt = engine.vocabulary.prompt(STORY)
    whole = list(engine.generate(prompt, GREEDY, 12))
    stopped = engine.generate(prompt, GREEDY, 12)
    came = []
    for token in stopped:
        came.append(token)
        if len(came) == 4:
            engine.stop.set()
    assert came == whole[:4]
    assert stopped.finish == "interrupted"
    engine.stop.clear()
    assert list(engine.generate(prompt, GREEDY, 12)) == whole


def test_a_stop_ends_the_evaluation_of_a_long_prompt_at_once() -> None:
    with loaded(LoadOptions(n_ctx=4096, n_threads=1, n_gpu_layers=0)) as engine:
        prompt = engine.vocabulary.tokenize("All work and no play. " * 500)
        answer = engine.generate(prompt, GREEDY, 4)
        timer = threading.Timer(0.3, engine.stop.set)
        timer.start()
        assert list(answer) == []
        timer.join()
        assert answer.finish == "interrupted"
        engine.stop.clear()
        story = engine.vocabulary.prompt(STORY)
        assert list(engine.generate(story, GREEDY, 8)) == bare_greedy(story, 8)


def test_a_stop_ends_a_load() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        Engine(read_header(smollm2()), SMALL, stop=stop)


def test_a_load_reports_its_progress() -> None:
    parts: list[float] = []
    with Engine(read_header(smollm2()), SMALL, on_progress=parts.append):
        assert parts == sorted(parts)
        assert parts[-1] == 1.0


@pytest.mark.parametrize("n_ctx", [-1, 1 << 31])
def test_a_context_that_is_not_a_number_of_tokens_is_refused(n_ctx: int) -> None:
    with pytest.raises(FrankenError, match=f"-c {n_ctx}: give a number of tokens"):
        loaded(LoadOptions(n_ctx=n_ctx))


def test_the_default_context_is_4096_and_zero_means_the_models_maximum() -> None:
    with loaded(LoadOptions(n_threads=1, n_gpu_layers=0)) as engine:
        assert engine.n_ctx == 4096
    with loaded(LoadOptions(n_ctx=0, n_threads=1, n_gpu_layers=0)) as engine:
        assert engine.n_ctx == 8192


def test_a_containers_limit_counts_as_the_machines_memory(tmp_path: Path) -> None:
    assert available_memory(tmp_path) > 0
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 100000\n")
    assert available_memory(tmp_path) == 400000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) > 400000


def test_the_tightest_limit_of_a_nested_control_group_counts(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    membership.write_text("4:memory:/outer/inner\n1:cpu,cpuacct:/\n0::/user.slice/a.scope\n")
    limits = {
        "memory": (2**63 - 4096, 100, 0),
        "memory/outer": (900000, 300000, 0),
        "memory/outer/inner": (800000, 300000, 100000),
        "user.slice": (700000, 400000, 250000),
        "elsewhere": (1000, 0, 0),
    }
    for name, (limit, usage, cache) in limits.items():
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        if name.startswith("memory"):
            (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
            (folder / "memory.usage_in_bytes").write_text(f"{usage}\n")
            (folder / "memory.stat").write_text(
                f"cache 9\ntotal_inactive_file {cache}\ntotal_active_file 0\n"
            )
        else:
            (folder / "memory.max").write_text(f"{limit}\n")
            (folder / "memory.current").write_text(f"{usage}\n")
            (folder / "memory.stat").write_text(f"inactive_file 0\nactive_file {cache}\n")
    assert available_memory(tmp_path, membership) == 550000  # of user.slice
    assert total_memory(tmp_path, membership) == 700000
    (tmp_path / "user.slice/memory.max").write_text("max\n")
    assert available_memory(tmp_path, membership) == 600000  # 800000 - 300000 + 100000, or outer's
    assert total_memory(tmp_path, membership) == 800000


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([(b"llama", b"lhama")], "unknown model architecture: 'lhama'"),
        (
            [(b"blk.7.attn_q.weight", b"blk.7.attn_x.weight")],
            "tensor 'blk.7.attn_q.weight' not found",
        ),
        ([(b"smollm", b"smoxxm")], "unknown pre-tokenizer type: 'smoxxm'"),
    ],
)
def test_a_refusal_by_llama_cpp_is_one_line_with_its_reason_and_nothing_on_the_screen(
    changes: list[tuple[bytes, bytes]],
    reason: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = patched_smollm2(tmp_path / "no.gguf", *changes)
    with pytest.raises(EngineError) as caught:
        Engine(read_header(path), SMALL)
    assert str(caught.value) == f"{path}: llama.cpp cannot load it: {reason}"
    assert capfd.readouterr() == ("", "")


def test_a_vocabulary_of_a_damaged_file_is_refused_before_llama_cpp_sees_it(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(smollm2().read_bytes()[:50_000_000])
    with pytest.raises(GGUFError, match=r"cut.gguf.*truncated or damaged"), load_vocabulary(path):
        pass


def test_a_file_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    path = patched_smollm2(
        tmp_path / "none.gguf",
        (
            b"tokenizer.ggml.model\x08\0\0\0\x04\0\0\0\0\0\0\0gpt2",
            b"tokenizer.ggml.model\x08\0\0\0\x04\0\0\0\0\0\0\0none",
        ),
    )
    with pytest.raises(FrankenError, match="has no tokenizer"), load_vocabulary(path):
        pass
