"""Names of models on the Hugging Face Hub, found in its cache on this machine; no network."""
