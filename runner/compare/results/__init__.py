"""What measurements mean: metrics, intervals, conclusions. Pure."""
