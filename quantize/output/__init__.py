"""GGUF files being written: planned, cut into jobs, journaled, resumed, verified."""
