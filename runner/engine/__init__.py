"""llama.cpp: what loads a model, draws its tokens and listens to it; knows no chat."""
