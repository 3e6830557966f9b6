"""Tokens drawn by the real model: samplers, a grammar, phrases taken back, odds and experts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console, RenderableType

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner import load
from franken_gguf.runner.commands.sampling_commands import Experts, Probabilities, Spelled
from franken_gguf.runner.compare.results.metrics import log_softmax
from franken_gguf.runner.engine.ban_filter import unbanned
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.generation import Routes
from franken_gguf.runner.engine.token_probs import Odds
from franken_gguf.runner.sampling import sampling_presets
from franken_gguf.runner.sampling.ban_list import Banned
from franken_gguf.runner.sampling.settings import SAMPLERS, Sampling, SamplingError
from franken_gguf.runner.ui import chat_screen, token_view
from support.models import demo_gguf, smollm2

SMALL = LoadOptions(n_ctx=512, n_threads=1, n_gpu_layers=0)
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(read_header(smollm2()), SMALL) as engine:
        yield engine


def prompt(engine: Engine, text: str = "The sea was calm, and the old") -> list[int]:
    return engine.vocabulary.prompt(text)


def drawn(engine: Engine, count: int = 12, **settings: Any) -> list[int]:
    sampling = replace(Sampling(seed=7), **settings)
    return list(engine.generate(prompt(engine), sampling, count))


def text(engine: Engine, tokens: list[int]) -> str:
    return b"".join(map(engine.vocabulary.piece, tokens)).decode()


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.5, "dynatemp_range": 1.0},
        {"typical_p": 0.5, "temperature": 2.0},
        {"top_n_sigma": 0.5, "temperature": 3.0},
        {"xtc_probability": 1.0, "xtc_threshold": 0.05},
        {"dry_multiplier": 50.0, "dry_allowed_length": 0, "dry_sequence_breakers": ()},
        {"repeat_penalty": 3.0},
        {"frequency_penalty": 9.0},
        {"presence_penalty": 9.0},
        {"mirostat": 1},
        {"mirostat": 2, "mirostat_tau": 9.0},
        {"logit_bias": ((260, -99.0),)},
        {"samplers": ("temperature",), "temperature": 2.0},
        {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.5},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_each_setting_changes_what_is_drawn_and_the_same_seed_draws_the_same(
    engine: Engine, settings: dict[str, Any]
) -> None:
    count = 40
    plain = drawn(engine, count)
    found = drawn(engine, count, **settings)
    assert found == drawn(engine, count, **settings)
    assert found != plain


def test_a_random_seed_is_another_one_every_time(engine: Engine) -> None:
    found = {tuple(drawn(engine, 20, seed=0xFFFFFFFF, temperature=2.0, top_k=0)) for _ in range(3)}
    assert len(found) == 3


def test_samplers_off_leave_llama_cpps_default_chain(engine: Engine) -> None:
    assert drawn(engine, samplers=SAMPLERS) == drawn(
        engine, samplers=("top_k", "top_p", "min_p", "temperature")
    )


def test_a_banned_token_is_never_drawn(engine: Engine) -> None:
    first = drawn(engine, 1, temperature=0)[0]
    assert drawn(engine, 1, temperature=0, logit_bias=((first, float("-inf")),)) != [first]


def test_dry_knows_the_prompt(engine: Engine) -> None:
    loop = "red green blue red green blue red green"
    tokens = engine.vocabulary.prompt(loop)
    plain = list(engine.generate(tokens, GREEDY, 1))
    dry = Sampling(temperature=0, dry_multiplier=20.0, dry_sequence_breakers=())
    assert text(engine, plain) == " blue"
    assert list(engine.generate(tokens, dry, 1)) != plain
    # Its range, -1, is the whole context: here "red green blue" is more than 64 tokens away.
    far = engine.vocabulary.prompt(loop + "." + " The sea was calm." * 50 + " red green")
    (blue,) = engine.vocabulary.tokenize(" blue")
    likely = replace(dry, logit_bias=((blue, 20.0),), dry_multiplier=99.0)
    assert list(engine.generate(far, replace(likely, dry_penalty_last_n=64), 1)) == [blue]
    assert list(engine.generate(far, likely, 1)) != [blue]


def test_an_answer_follows_its_grammar_to_the_end(engine: Engine) -> None:
    grammar = 'root ::= ("yes" | "no") "!" "?"'
    generation = engine.generate(prompt(engine), Sampling(grammar=grammar, seed=3), 20)
    assert text(engine, list(generation)) in ("yes!?", "no!?")
    assert generation.finish == "stop" and generation.end_token is not None


def without(engine: Engine, phrases: list[str], sampling: Sampling, count: int) -> tuple[str, int]:
    generation = engine.generate(prompt(engine), sampling, count, can_rewind=True)
    tokens = list(unbanned(generation, Banned(phrases), engine.vocabulary.piece))
    assert tokens == generation.taken
    return text(engine, tokens), generation.rewound


def test_a_banned_phrase_is_rewound_and_the_answer_continues(engine: Engine) -> None:
    plain, back = without(engine, ["no such words"], GREEDY, 24)
    assert (plain, back) == (text(engine, drawn(engine, 24, temperature=0)), 0)
    words = " ".join(plain.split()[2:4])
    other, back = without(engine, [words], GREEDY, 24)
    assert words.lower() not in other.lower()
    assert back >= 1
    # All before the phrase is as it was.
    start = plain.index(words)
    assert other[: start - 1] == plain[: start - 1]


def test_what_is_drawn_after_a_rewind_is_what_a_bias_at_that_place_would_draw(
    engine: Engine,
) -> None:
    plain = drawn(engine, 3, temperature=0)
    phrase = text(engine, plain[:1]).strip()
    other, _ = without(engine, [phrase], GREEDY, 1)
    disallowed = ((plain[0], float("-inf")),)
    expected = text(engine, drawn(engine, 1, temperature=0, logit_bias=disallowed))
    assert phrase.lower() not in expected.lower()
    assert other == expected


def test_penalties_and_seed_go_on_after_a_rewind_as_if_nothing_had_been(engine: Engine) -> None:
    sampling = Sampling(seed=5, repeat_penalty=1.3, dry_multiplier=0.8, temperature=1.2)
    plain, _ = without(engine, [], sampling, 30)
    phrase = " ".join(plain.split()[4:6])
    first = without(engine, [phrase], sampling, 30)
    assert first == without(engine, [phrase], sampling, 30)
    assert phrase.lower() not in first[0].lower()


def test_a_phrase_that_cannot_be_avoided_is_let_through_after_some_tries(engine: Engine) -> None:
    grammar = 'root ::= "yes"'
    found, back = without(engine, ["yes"], Sampling(grammar=grammar, temperature=0), 8)
    assert (found, back > 0) == ("yes", True)


def test_a_phrase_is_found_whose_characters_come_in_parts(engine: Engine) -> None:
    smile, other = engine.vocabulary.tokenize("\U0001f600"), engine.vocabulary.tokenize("x")
    assert len(smile) > 1
    sampling = Sampling(
        temperature=0,
        grammar='root ::= ("\U0001f600" | "x") "!"',
        logit_bias=((smile[0], 99.0), (other[0], 50.0)),
    )
    assert without(engine, ["no such words"], sampling, 8) == ("\U0001f600!", 0)
    assert without(engine, ["\U0001f600"], sampling, 8) == ("x!", len(smile))


def test_the_odds_of_an_answer_are_those_of_the_model(engine: Engine) -> None:
    generation = engine.generate(prompt(engine), GREEDY, 6, records=True)
    tokens = list(generation)
    assert len(tokens) == 6
    assert [one.token for one in generation.odds] == tokens
    for place, one in enumerate(generation.odds):
        engine.evaluate([*prompt(engine), *tokens[:place]])
        exact = np.exp(log_softmax(engine.last_logits().astype(np.float64)))
        assert one.probability == pytest.approx(exact[one.token], rel=1e-3)
        assert one.alternatives[0][0] == one.token == exact.argmax()
        shares = [share for _, share in one.alternatives]
        assert shares == sorted(shares, reverse=True)


def test_the_experts_of_an_answer_are_kept_and_taken_back_with_their_tokens() -> None:
    with load(
        demo_gguf("Q8_0"), SMALL, sampling={"temperature": 0}, max_tokens=8, experts=True
    ) as chat:
        chat.records = True
        chat.ask("Name the sea.").read()
        assert chat.last is not None
        plain = list(chat.last.taken)
        routes = list(chat.last.routes)
        assert len(routes) in (len(plain), len(plain) - 1)
        assert {len(one) for one in routes} == {30}
        assert all(len(set(used)) == 2 for one in routes for used in one.values())
        phrase = chat.engine.vocabulary.piece(plain[3]).decode().strip()
        chat.conversation.clear()
        chat.banned = Banned([phrase])
        answer = chat.ask("Name the sea.").read()
        assert phrase.lower() not in answer.lower()
        assert len(chat.last.routes) <= len(chat.last.taken) == len(chat.last.odds)


def test_a_preset_of_the_users_own_stands_before_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "presets.yml"
    monkeypatch.setattr(sampling_presets, "user_file", lambda: path)
    assert set(sampling_presets.presets()) == {"default", "story", "precise", "wild"}
    path.write_text("story: {temperature: 1}\nmine: {samplers: [top_k, temperature], top_k: 3}\n")
    assert sampling_presets.preset("story") == {"temperature": 1.0}
    assert Sampling(**sampling_presets.preset("mine")).samplers == ("top_k", "temperature")
    for text, reason in (
        ("a: {heat: 1}", "a: there is no setting 'heat'"),
        ("a: 1", "must hold settings"),
        ("[]", "must hold presets"),
        ("a: {top_k: x}", "a: top_k must be a whole number"),
        ("a: {top_k: -1}", "a: top_k is -1; it must be"),
        ("a: {samplers: [x]}", "there is no sampler 'x'"),
        ("a: {samplers: [[]]}", "a: "),
    ):
        path.write_text(text)
        with pytest.raises(SamplingError, match=f"presets.yml: .*{reason}"):
            sampling_presets.presets()
    with pytest.raises(SamplingError):
        sampling_presets.preset("none")


def drawn_on(width: int, *drawings: RenderableType, no_color: bool = True) -> str:
    console = Console(width=width, force_terminal=True, no_color=no_color)
    screen = chat_screen.Screen(console)
    with console.capture() as capture:
        for drawing in drawings:
            screen.print(drawing)
    return capture.get()


def test_odds_and_experts_are_drawn_within_60_columns_and_steer_no_terminal() -> None:
    odds = Odds(1, 0.25, ((2, 0.5), (1, 0.25)))
    tokens = (Spelled(b"\x1b[2J", odds, ((b"the\n", 0.5), (b"\x1b[2J", 0.25))),) * 30
    routes: Routes = {0: (1, 0), 1: (1, 2)}
    named = Experts(("dol\x1bphin", "maid"), ((b"\x1b[2J", routes), (b"sea", routes)) * 40)
    console = Console(width=60, no_color=True)
    summary = drawn_on(60, token_view.experts(named, console))
    odds_shown = drawn_on(60, token_view.probabilities(Probabilities(tokens), 60))
    mapped = drawn_on(60, token_view.experts(replace(named, has_map=True), console))
    for shown in (summary, odds_shown, mapped):
        assert "\x1b" not in shown
        assert max(map(len, shown.splitlines())) <= 60
        assert not [line for line in shown.splitlines() if line != line.rstrip()]
    assert (
        "'\\x1b[2J'" in odds_shown
        and "'the\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}' 50 %" in odds_shown
    )
    assert re.search(r"B  maid +50 %  #{10} +most in layers 0, 1\n", summary)
    assert re.search(r"C  expert 2 +25 %  #{5} +most in layers 1\n", summary)
    assert "\n0 BBBB" in mapped and "BBBB" not in summary


def test_an_emoji_of_several_tokens_has_one_shade_and_its_parts_are_bytes_in_the_list() -> None:
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    pieces = [family.encode()[:2], family.encode()[2:], b"\n", b"!"]
    tokens = (Spelled(piece, Odds(1, 0.4, ()), ()) for piece in pieces)
    shown = drawn_on(60, token_view.probabilities(Probabilities(tuple(tokens)), 60), no_color=False)
    assert f"{family}\x1b[0m\n" in shown
    assert "'<0xF0><0x9F>'" in shown
