"""The parts of tools/eternal_life.py."""
