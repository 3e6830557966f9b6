"""Text to and from a terminal: units, escapes, wrapping, the input line, the clipboard."""
