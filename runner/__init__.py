"""GGUF to words and figures: the command line, the engine and the chat."""
