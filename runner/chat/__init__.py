"""Chats with a model: prompts, answers and summaries, and the saved session they belong to."""
