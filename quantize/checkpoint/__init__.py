"""Checkpoints as sources: Hugging Face folders and GGUF files, names mapped, rows on demand."""
