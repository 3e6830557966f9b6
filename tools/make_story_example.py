"""Draw the sample card's picture and write the card into it: examples/story/mara.png.

    .venv/bin/python tools/make_story_example.py

The PNG is like those of card editors: the card as base64 JSON in a tEXt chunk `ccv3`, and again in
`chara` for programs that read only V2.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "story"
WIDTH, HEIGHT = 96, 120
SKY, SEA, ROCK, TOWER, BAND, LIGHT = (
    "#101a33",
    "#0b2a3a",
    "#1a1a1f",
    "#d8d2c0",
    "#9c3b32",
    "#ffd97a",
)


def picture() -> Image.Image:
    """A lighthouse at night."""
    image = Image.new("RGB", (WIDTH, HEIGHT), SKY)
    draw = ImageDraw.Draw(image, "RGBA")
    for x, y in ((10, 14), (25, 30), (70, 10), (86, 26), (60, 40), (14, 52), (90, 58)):
        draw.point((x, y), "#cfd6e6")
    for side in (-1, 1):
        tip = WIDTH // 2 + side * WIDTH
        draw.polygon([(WIDTH // 2, 31), (tip, 10), (tip, 62)], (255, 217, 122, 90))
    draw.rectangle((0, 92, WIDTH, HEIGHT), SEA)
    for y in range(96, HEIGHT, 6):
        draw.line([(x, y + (x // 6) % 2) for x in range(0, WIDTH, 6)], "#1d4a5e")
    draw.polygon([(18, 104), (34, 88), (62, 88), (82, 104)], ROCK)
    draw.polygon([(42, 38), (54, 38), (59, 90), (37, 90)], TOWER)
    for top in (48, 66):
        draw.polygon([(40, top), (56, top), (57, top + 9), (39, top + 9)], BAND)
    draw.rectangle((41, 26, 55, 37), LIGHT)
    draw.polygon([(38, 26), (58, 26), (48, 16)], BAND)
    draw.rectangle((45, 80, 51, 90), "#3a2a20")
    return image.resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.NEAREST)


def main() -> None:
    """Write the PNG beside the card's JSON."""
    card = json.loads((FOLDER / "mara.json").read_text(encoding="utf-8"))
    second = {**card, "spec": "chara_card_v2", "spec_version": "2.0"}
    texts = PngInfo()
    for keyword, found in (("ccv3", card), ("chara", second)):
        texts.add_text(keyword, base64.b64encode(json.dumps(found).encode()).decode())
    picture().save(FOLDER / "mara.png", pnginfo=texts, optimize=True)


if __name__ == "__main__":
    main()
