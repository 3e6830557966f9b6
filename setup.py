"""Tell setuptools that quantize/ and runner/ are installed as franken_gguf.quantize and .runner.

pyproject.toml holds everything else: it can name packages one by one or find them, but not find
them under another name than their folder's.
"""

from setuptools import find_packages, setup

ROOMS = ("quantize", "runner")

setup(
    packages=[
        f"franken_gguf.{package}"
        for package in find_packages(include=[*ROOMS, *(f"{room}.*" for room in ROOMS)])
    ],
    package_dir={f"franken_gguf.{room}": room for room in ROOMS},
)
