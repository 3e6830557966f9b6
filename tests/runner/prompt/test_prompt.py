"""Chat templates: the model's own words around a conversation, and strangers' programs kept in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime

import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.conversation.conversation import Message
from franken_gguf.runner.prompt.template import (
    PromptError,
    Template,
    shapes,
    special_tokens,
    stored_template,
)
from support.bpe_tokenizers import CHATML, QWEN3_TEMPLATE, R1_TEMPLATE
from support.models import smollm2

SYSTEM = Message("system", "Be <b>brief</b> & kind.")
HELLO = Message("user", "Hello")
HI = Message("assistant", "Hi!")
MORE = Message("user", "More")
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

# As Mistral's templates do: no system role, users and assistants in turns.
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}"
    "{% else %}{{ message.content + eos_token }}{% endif %}{% endfor %}"
)


def rendered(source: str | None, *messages: Message, deadline: float = 20.0) -> str:
    with Template(source, TOKENS, deadline=deadline) as template:
        return template.render(messages)


def test_a_template_of_qwen3_drops_earlier_thoughts_and_keeps_those_being_thought() -> None:
    thought = Message("assistant", "<think>\nA friend.\n</think>\n\nHi!")
    with Template(QWEN3_TEMPLATE, {}) as template:
        start = template.render([HELLO])
        assert template.render([HELLO, thought, MORE]) == template.render([HELLO, HI, MORE])
        assert template.render_up_to([HELLO], thought.content) == start + thought.content
        assert template.render_up_to([HELLO], "<think>\nA fr") == start + "<think>\nA fr"


def test_a_template_that_opens_the_thoughts_does_not_get_them_opened_again() -> None:
    source = CHATML.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}")
    with Template(source, {}) as template, Template(CHATML, {}) as plain:
        assert template.opens_thoughts and not plain.opens_thoughts
        start = template.render([HELLO])
        assert start.endswith("<think>\n")
        assert template.render_up_to([HELLO], "") == start
        assert template.render_up_to([HELLO], "<think>A fr") == start + "A fr"
        answered = "<think>A friend.\n</think>\n\nHi!"
        assert template.render_up_to([HELLO], answered) == start + "A friend.\n</think>\n\nHi!"
        # An answer that was written without thoughts is continued without any.
        assert template.render_up_to([HELLO], "Hi!") == start + "\n</think>\n\nHi!"


@pytest.mark.parametrize("source", [QWEN3_TEMPLATE, R1_TEMPLATE])
def test_thoughts_that_were_cut_off_are_dropped_like_whole_ones(source: str) -> None:
    cut, none = Message("assistant", "<think>\nA fr"), Message("assistant", "")
    with Template(source, {}) as template:
        assert template.render([HELLO, cut, MORE]) == template.render([HELLO, none, MORE])


def test_smollm2s_own_template_is_rendered_with_its_own_default_system_text() -> None:
    header = read_header(smollm2())
    tokens = special_tokens(header)
    assert tokens == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
    }
    with Template(stored_template(header), tokens) as template:
        assert not template.is_fallback
        assert template.render([HELLO]) == (
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
            "Face<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
        )


def test_a_model_without_a_template_is_spoken_to_in_chatml() -> None:
    with Template(None, {}) as template:
        assert template.is_fallback
        assert template.stops == ("<|im_end|>", "<|im_start|>")
        assert template.render([SYSTEM, HELLO, HI, MORE]) == (
            "<|im_start|>system\nBe <b>brief</b> & kind.<|im_end|>\n"
            "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi!<|im_end|>\n"
            "<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n"
        )


def test_a_refused_system_text_moves_into_the_first_user_turn() -> None:
    assert rendered(MISTRAL, SYSTEM, HELLO, HI, MORE) == (
        "<s>[INST] Be <b>brief</b> & kind.\n\nHello [/INST]Hi!</s>[INST] More [/INST]"
    )


def test_a_system_text_that_a_template_leaves_out_moves_into_the_first_user_turn() -> None:
    silent = "{% for m in messages if m.role == 'user' %}[{{ m.content }}]{% endfor %}"
    assert rendered(silent, SYSTEM, HELLO) == "[Be <b>brief</b> & kind.\n\nHello]"


def test_neighbours_of_one_role_become_one_turn_where_a_template_refuses_them() -> None:
    assert rendered(MISTRAL, HELLO, MORE) == "<s>[INST] Hello\n\nMore [/INST]"


def test_a_greeting_before_the_first_question_stands_where_a_template_wants_the_user_first() -> (
    None
):
    assert rendered(MISTRAL, SYSTEM, HI, HELLO) == (
        "<s>[INST] Be <b>brief</b> & kind. [/INST]Hi!</s>[INST] Hello [/INST]"
    )
    assert rendered(MISTRAL, HI, HELLO) == "<s>[INST]  [/INST]Hi!</s>[INST] Hello [/INST]"


def test_messages_keep_their_shape_where_all_shapes_are_one() -> None:
    assert list(shapes([HELLO, HI, MORE])) == [[HELLO, HI, MORE]]


def test_templates_find_what_transformers_gives_them() -> None:
    source = (
        "{%- for m in messages %}\n    {%- if loop.last %}{{ m | tojson }}{% break %}{% endif %}\n"
        "{%- endfor %}{% generation %} kept {% endgeneration %}{{ strftime_now('%Y') }}"
        "{{ add_generation_prompt }}{{ eos_token }}"
    )
    told = json.dumps({"role": "user", "content": "<é>"}, ensure_ascii=False)
    year = f"{datetime.now():%Y}"
    assert rendered(source, Message("user", "<é>")) == f"{told} kept {year}True</s>"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ messages[0].nothing.there }}", "has no attribute 'nothing'"),
        ("{{ raise_exception('not today') }}", "not today"),
        ("{% for %}", "unexpected '%}'|Expected|expected token"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.system('id') }}", "unsafe"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested too deeply"),
        ("{{ " + "[" * 3000 + "]" * 3000 + " }}", "nested too deeply"),
        ("{% for i in range(99999999) %}x{% endfor %}", "Range too big"),
        ("{{ 'a' * 10 ** 10 }}", "memory"),
        ("{{ '%2000000000d' | format(1) }}", "memory"),
        (
            "{% set n = namespace(x='a') %}"
            "{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
            "memory",
        ),
        ("{% for i in range(99999) %}{{ 'a' * 100000 }}{% endfor %}", "longer than 16777216"),
    ],
)
def test_a_hostile_or_broken_template_ends_in_one_line(source: str, reason: str) -> None:
    with pytest.raises(PromptError, match=reason) as caught:
        rendered(source, HELLO)
    assert str(caught.value).startswith("the model's chat template cannot be used: ")


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}",
        "{% set x = 7 ** (7 ** 9) %}",
    ],
)
def test_an_endless_template_is_ended_at_its_deadline(source: str) -> None:
    with pytest.raises(PromptError, match="did not finish within 2 seconds"):
        rendered(source, HELLO, deadline=2.0)


def test_a_template_renders_again_after_its_process_was_ended() -> None:
    source = (
        "{% if messages[0].content == 'spin' %}{% for i in range(99999) %}"
        "{% for i in range(99999) %}{% endfor %}{% endfor %}{% endif %}{{ messages[0].content }}"
    )
    with Template(source, {}, deadline=2.0) as template:
        assert template.render([HELLO]) == "Hello"
        with pytest.raises(PromptError, match="2 seconds"):
            template.render([Message("user", "spin")])
        assert template.render([MORE]) == "More"


def test_a_template_waits_for_the_next_turn_longer_than_a_rendering_may_take() -> None:
    code = (
        "from franken_gguf.runner.prompt import template_process as p; p.MAX_SECONDS = 1; p.main()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin and child.stdout
        replies = []
        for request in ({"template": "Hello {{ name }}"}, {"name": "Ada"}):
            print(json.dumps(request), file=child.stdin, flush=True)
            replies.append(child.stdout.readline())
            time.sleep(1.2)
    assert replies == ['{"text": ""}\n', '{"text": "Hello Ada"}\n']
    assert child.returncode == 0
