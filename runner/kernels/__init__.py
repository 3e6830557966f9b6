"""Which code quantizes: ours in numpy or ggml's, whichever is faster on this machine."""
