"""What of a model goes where: pure functions of its shape and of the memory there is."""
