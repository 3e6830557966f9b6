"""llama.cpp: loading a model, sampling tokens, capturing what its graph computes."""
