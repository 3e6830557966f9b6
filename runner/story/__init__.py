"""Storytelling: character cards, lorebooks, notes, and the messages they become for a model."""
