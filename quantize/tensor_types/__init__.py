"""Which block format each tensor gets: presets, overrides, importance matrices, second moments."""
