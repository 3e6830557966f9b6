"""Checkpoints to GGUF: numpy, gguf and a tokenizer library. Knows no screen and no engine."""
