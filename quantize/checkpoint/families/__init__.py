"""Model families as data: one file each, and the table of all of them."""
