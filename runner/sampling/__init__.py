"""Sampling settings, presets and banned phrases; pure, without llama.cpp."""
