"""A conversation with a model: what is said, kept, saved and shown."""
