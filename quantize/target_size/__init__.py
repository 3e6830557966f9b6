"""The best types for a file of a given size: errors, sizes and costs by tensor and type."""
