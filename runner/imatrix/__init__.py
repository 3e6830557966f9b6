"""Importance matrices made by running the model: calibration text, sums, the experts' shares."""
