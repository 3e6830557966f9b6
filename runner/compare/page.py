"""Placeholder."""


def page(comparison: object) -> str:
    """None."""
    return ""
