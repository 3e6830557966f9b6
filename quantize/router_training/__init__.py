"""Routers of mixtures trained by exact gradients, in numpy: the model's loss, backwards, Adam."""
