"""A comparison as an HTML page, as plots and as CSV; sizes and what they cost as a page."""
