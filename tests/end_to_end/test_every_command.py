"""Every command there is, typed at a terminal in one story of the demo's mixture of experts."""

from __future__ import annotations

import json
from pathlib import Path

from franken_gguf.runner.commands.command_table import COMMANDS
from support.cards import V2, png, text_chunk
from support.models import demo_gguf
from support.terminals import ENTER, TAB, Terminal

ANSWER = r"\[\d+ tokens, [\d.]+ tokens/s[^\n]*\]"
BO = {"name": "Bo", "description": "{{char}} rows the boat.", "first_mes": "Ahoy, {{user}}."}
LORE = {"entries": [{"keys": ["lamp"], "content": "It burns oil.", "comment": "Lamp"}]}

# What is typed, and what comes of it; {home} is a folder.
STORY = [
    ("/help", r"/help  +show this list\n(.*\n)*  Ctrl-C"),
    ("/character", "keeps the lighthouse"),
    ("What does the lamp burn?", ANSWER),
    ("/lore", r"active: 2 of 2 entries"),
    ("/note It rains.", "note set 4 messages before the end"),
    ("/memory The sea took a boat.", "memory set"),
    ("/as Bo", ANSWER),
    ("/persona {home}/Ann.txt", "you are now Ann"),
    ("/lorebook", "lore"),
    ("/show prompt", r"the model reads \d+ of 2048 tokens: [^\n]*\n[^\n]*system"),
    ("/probs", "90 % or more  50 % or more"),
    ("/experts", r"A  Ann-Lee +\d+ %[^\n]*\n[^\n]*B  Bea"),
    ("/experts map", r"\n 0 [A-D]+"),
    ("/preset", r"story +temperature 1.0, min_p"),
    ("/preset precise", "preset 'precise' loaded"),
    ("/ban the lamp", "\nbanned: the lamp"),
    ("/unban all", "no banned phrases left"),
    ("/set temp 1.5", "temp is now 1.5"),
    ("/regen", ANSWER),
    ("/swipes", r"\n  1  [^\n]*\n\* 2  "),
    ("/swipe 1", "answer 1 of 2"),
    ("/continue", ANSWER),
    ("/impersonate", r"your line\n\n> \S"),
    (" So it is.", ANSWER),
    ("/show messages", r"6  assistant"),
    ("/edit 2", r"> What does the lamp burn\?"),
    (" Tell me!", "message 2 changed"),
    ("/save tale", "saved as 'tale'"),
    ("/branch dark", "now on branch 'dark' of 'tale', from message 6"),
    ("/undo", r"removed: \S"),
    ("/branches", r"\n  tale\n\*   dark\n"),
    ("/checkout ta" + TAB, "resumed 'tale', 6 messages"),
    ("/sessions", r"\* [^\n]* tale\n"),
    ("/export {home}/tale.jsonl", "exported to "),
    ("/import {home}/tale.jsonl", "resumed 'tale 2', 6 messages"),
    ("/load dark", "resumed 'dark', 4 messages"),
    ("/tokens", r"the conversation takes \d+ of 2048 tokens"),
    ("/copy", r"copied \d+ characters"),
    ("/thoughts", "the last answer has no thoughts"),
    ("/stats", r"answers  +\d"),
    ("/next", ANSWER),
    ("/system Be brief.", "system text set"),
    ("/clear", "context cleared"),
]


def test_every_command_does_what_it_says_in_one_story(tmp_path: Path) -> None:
    commands = {command.name for command in COMMANDS}
    assert {line.split()[0] for line, _ in STORY if line.startswith("/")} == commands - {"/bye"}
    for name, card in (("mara", V2), ("bo", BO)):
        (tmp_path / f"{name}.png").write_bytes(png(text_chunk("chara", card)))
    (tmp_path / "Ann.txt").write_text("{{user}} is wet.")
    (tmp_path / "lore.json").write_text(json.dumps(LORE))
    options = ["-t", "1", "-c", "2048", "-n", "8", "--seed", "1"]
    options += ["--session", "first", "--user", "Ann"]
    options += ["--experts", "--expert-names", "Ann-Lee, Bea, Cid, Dee"]
    for name in ("mara.png", "bo.png"):
        options += ["--character", str(tmp_path / name)]
    with Terminal(
        *("chat", str(demo_gguf("Q8_0")), *options, "--lorebook", str(tmp_path / "lore.json")),
        XDG_DATA_HOME=str(tmp_path),
        EDITOR="",
        VISUAL="",
        SSH_CONNECTION="far",
    ) as terminal:
        terminal.wait_for("Come in, Ann")
        for line, outcome in STORY:
            keys = line.format(home=tmp_path) + ENTER
            if line.startswith(" "):  # in a line that has begun
                terminal.type(keys)
            else:
                terminal.at_prompt(keys)
            terminal.wait_for(outcome)
        assert terminal.leave("/bye" + ENTER) == 0
        assert "Error" not in terminal.text
        assert "Traceback" not in terminal.text
    assert {path.stem for path in tmp_path.rglob("*.jsonl")} == {"first", "tale", "tale 2", "dark"}
