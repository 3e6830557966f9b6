"""A comparison as an HTML page, as plots and as CSV."""
