"""Comparing models: which quant still answers like the full one."""
