"""Tokenizer files to GGUF keys, and a check that the token ids stay the same."""
