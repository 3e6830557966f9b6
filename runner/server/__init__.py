"""The model and its stories over HTTP, in the dialects of llama.cpp, OpenAI and KoboldCpp."""
