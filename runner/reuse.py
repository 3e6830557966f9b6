"""Which tokens of the context still spell the beginning of a new prompt; pure.

A model writes "th" + "e" where the tokenizer reads "the". So the tokens of a conversation's text
are not always those that are in the context already, and a comparison of ids alone would evaluate
again all that follows the first odd one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence


def spelling_prefixes(
    tokens: Sequence[int],
    text: bytes,
    spell: Callable[[int], bytes],
    is_control: Callable[[int], bool],
) -> Iterator[tuple[int, int]]:
    """How many first `tokens` may stand for how many first bytes of `text`, the longest first.

    At most two: all that spell it, which is sound only where `text` goes on with a control token or
    ends there, and those up to the last control token, which is sound always: tokenizers never
    join text across one.
    """
    place, after_control = 0, True
    count, sound = 0, (0, 0)
    for token in tokens:
        spelled = spell(token)
        # SentencePiece begins a text with a space that is not there.
        if after_control and spelled[:1] == b" " and not text.startswith(spelled, place):
            spelled = spelled[1:]
        if not text.startswith(spelled, place):
            break
        count, place, after_control = count + 1, place + len(spelled), is_control(token)
        if after_control:
            sound = (count, place)
    if count > sound[0]:
        yield count, place
    if sound[0]:
        yield sound
