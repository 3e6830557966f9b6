"""Checkpoints to GGUF: numpy, gguf, safetensors and a tokenizer library. Knows no screen and no engine."""
