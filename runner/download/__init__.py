"""Fetching models from the Hugging Face Hub into its cache on this machine, when asked to."""
