"""A chat with the real SmolLM2, as a program has it: turns, second tries, a full context."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from franken_gguf.runner import Chat, LoadOptions, Message, Summarized, Text, Truncated, load
from franken_gguf.runner.conversation.conversation import Conversation
from franken_gguf.runner.conversation.thoughts import thoughts_of
from franken_gguf.runner.engine.backend import EngineError
from support.bpe_tokenizers import CHATML
from support.models import smollm2
from support.tiny_model import tiny_gguf

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
TURN = [Message("user", FRANCE), Message("assistant", PARIS)]


@pytest.fixture(scope="module")
def loaded() -> Iterator[Chat]:
    options = LoadOptions(n_ctx=256, n_threads=1, n_gpu_layers=0)
    with load(smollm2(), options, sampling={"temperature": 0}) as chat:
        yield chat


@pytest.fixture
def chat(loaded: Chat) -> Chat:
    loaded.conversation = Conversation("Be brief.")
    loaded.max_tokens = 16
    loaded.summarize = False
    return loaded


def said(chat: Chat) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in chat.conversation.messages]


def test_an_answer_comes_in_pieces_of_text_and_is_kept(chat: Chat) -> None:
    answer = chat.ask(FRANCE)
    pieces = list(answer)
    assert all(isinstance(piece, Text) for piece in pieces)
    assert len(pieces) > 4
    assert "".join(piece.text for piece in pieces if isinstance(piece, Text)) == PARIS
    assert said(chat) == [("user", FRANCE), ("assistant", PARIS)]
    assert all(message.date.endswith("Z") for message in chat.conversation.messages)


def test_thoughts_that_the_prompt_opens_are_opened_in_the_answer_too(tmp_path: Path) -> None:
    model = tiny_gguf(tmp_path, CHATML.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}"))
    grammar = 'root ::= "It is late.</think> Good night."'
    with load(model, LoadOptions(n_ctx=256, n_threads=1, n_gpu_layers=0)) as chat:
        chat.sampling = replace(chat.sampling, grammar=grammar)
        assert chat.ask("Good night!").read() == "<think>It is late.</think> Good night."
        answer = chat.conversation.messages[-1].content
        assert thoughts_of(answer) == "It is late."


def test_a_second_turn_knows_the_first_and_evaluates_only_what_is_new(chat: Chat) -> None:
    chat.ask(FRANCE).read()
    answer = chat.ask("And of Italy?")
    assert answer.read() == "The capital of Italy is Rome."
    new = chat.engine.vocabulary.tokenize(
        "<|im_end|>\n<|im_start|>user\nAnd of Italy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert answer.generation.prompt_evaluated == len(new)


def test_an_answer_given_again_takes_the_last_ones_place(chat: Chat) -> None:
    chat.ask(FRANCE).read()
    again = chat.regenerate()
    assert again.read() == PARIS
    assert again.generation.prompt_evaluated == 1
    assert said(chat) == [("user", FRANCE), ("assistant", PARIS)]


def test_with_a_seed_each_try_differs_and_all_come_again(chat: Chat) -> None:
    def tries() -> list[str]:
        chat.conversation = Conversation()
        first = chat.ask("Write a line about rain.").read()
        return [first, chat.regenerate().read(), chat.regenerate().read()]

    greedy = chat.sampling
    chat.sampling = replace(greedy, temperature=1.5, seed=7)
    try:
        once = tries()
        assert len(set(once)) == 3
        assert tries() == once
    finally:
        chat.sampling = greedy


def test_a_cut_answer_continues_as_if_it_had_not_been_cut(chat: Chat) -> None:
    whole = chat.ask(FRANCE).read()
    chat.conversation.clear()
    chat.max_tokens = 3
    chat.ask(FRANCE).read()
    chat.max_tokens = 16
    assert whole.endswith(chat.resume().read())
    assert said(chat)[2:] == [("user", FRANCE), ("assistant", whole)]


def test_another_question_takes_the_last_ones_place(chat: Chat) -> None:
    chat.ask("What is the capital of Italy?").read()
    assert chat.ask_instead(FRANCE).read() == PARIS
    assert said(chat) == [("user", FRANCE), ("assistant", PARIS)]


def test_a_greeting_without_a_system_text_continues_too(chat: Chat) -> None:
    chat.conversation = Conversation(messages=[Message("assistant", "Welcome, traveller")])
    chat.resume().read()
    assert said(chat)[0][1].startswith("Welcome, traveller")
    chat.regenerate().read()
    assert len(said(chat)) == 1


def test_a_context_too_small_for_a_summary_has_none() -> None:
    options = LoadOptions(n_ctx=96, n_threads=1, n_gpu_layers=0)
    sampling = {"temperature": 0}
    with load(smollm2(), options, sampling=sampling, max_tokens=8, summarize=True) as small:
        small.conversation.system = "Be brief."
        kinds = {type(piece) for _ in range(6) for piece in small.ask(FRANCE)}
        assert kinds == {Text, Truncated}
        assert small.conversation.memory == ""


def test_a_greeting_and_what_follows_it_are_given_again_and_go_on(chat: Chat) -> None:
    chat.conversation.messages = [Message("assistant", "Welcome, traveller")]
    chat.resume().read()
    ((role, text),) = said(chat)
    assert role == "assistant"
    assert text.startswith("Welcome, traveller")
    assert len(text) > len("Welcome, traveller")


def test_oldest_turns_leave_in_one_step_and_the_transcript_keeps_them(chat: Chat) -> None:
    steps, prompts = [], []
    for number in range(12):
        answer = chat.ask(f"Name number {number} of the things that sailors know.")
        steps += [piece.turns for piece in answer if isinstance(piece, Truncated)]
        prompts.append(answer.generation.prompt_tokens)
        assert chat.conversation.read_by_model()[0] == Message("system", "Be brief.")
    assert steps == [4, 4]
    assert max(prompts) + 16 <= 256
    assert len(chat.conversation.messages) == 24
    assert said(chat)[0] == ("user", "Name number 0 of the things that sailors know.")


def test_a_question_too_long_for_the_context_is_refused_and_changes_nothing(chat: Chat) -> None:
    chat.ask(FRANCE).read()
    before = said(chat)
    with pytest.raises(EngineError, match=r"the prompt is \d+ tokens, the context 256; shorten it"):
        chat.ask("sea " * 300)
    assert said(chat) == before
    assert chat.conversation.forgotten == 0
    assert chat.ask("And of Italy?").read() == "The capital of Italy is Rome."


def test_what_leaves_is_summed_up_and_remembered(chat: Chat) -> None:
    chat.summarize = True
    chat.conversation.messages = TURN * 10
    seen = [piece for piece in chat.ask(FRANCE) if not isinstance(piece, Text)]
    memory = chat.conversation.memory
    assert seen == [Truncated(6, is_summed_up=True), Summarized(memory)]
    assert memory
    assert len(chat.engine.vocabulary.tokenize(memory)) <= 256 // 8
    assert memory in chat.conversation.read_by_model()[0].content
    # The next time the old summary is a part of what is summed up.
    chat.conversation.messages += TURN * 6
    assert Summarized in [type(piece) for piece in chat.ask(FRANCE)]
    assert len(chat.conversation.messages) == 2 * 18


def test_a_transcript_far_longer_than_the_context_is_taken_up_at_its_end(chat: Chat) -> None:
    chat.conversation.messages = TURN * 5000
    answer = chat.ask("And of Italy?")
    (left, *_) = list(answer)
    assert isinstance(left, Truncated)
    assert chat.conversation.forgotten == 2 * left.turns
    assert 64 < answer.generation.prompt_tokens <= 128
    assert "Rome" in answer.text


def test_a_stopped_answer_is_kept_and_one_stopped_before_its_first_word_is_taken_back(
    chat: Chat,
) -> None:
    answer = chat.ask("Tell me a long story.")
    for _ in answer:
        chat.engine.stop.set()
    chat.engine.stop.clear()
    assert answer.text
    assert said(chat) == [("user", "Tell me a long story."), ("assistant", answer.text)]
    chat.engine.stop.set()
    assert chat.ask("And then?").read() == ""
    chat.engine.stop.clear()
    assert len(chat.conversation.messages) == 2


def test_a_stop_while_it_sums_up_changes_nothing(chat: Chat) -> None:
    chat.summarize = True
    chat.conversation.messages = TURN * 10
    pieces = []
    for piece in chat.ask(FRANCE):
        pieces.append(type(piece))
        chat.engine.stop.set()
    chat.engine.stop.clear()
    assert pieces == [Truncated]
    assert chat.conversation.forgotten == 0
    assert chat.conversation.memory == ""
    assert chat.conversation.messages == TURN * 10


def test_importing_the_package_loads_no_engine() -> None:
    code = "import sys, franken_gguf.runner; print('llama_cpp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
