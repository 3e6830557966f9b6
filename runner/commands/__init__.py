"""Slash commands of a chat: what each does, without a screen."""
