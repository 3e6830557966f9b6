"""GGUF files: headers read and written, metadata values, split files, a summary."""
