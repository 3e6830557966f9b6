"""Conversations and their files: messages, swipes, branches, sessions, export."""
