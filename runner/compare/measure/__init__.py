"""Measuring models: questions, answers, scores and routing, one process per model."""
