"""Placeholder."""


def conclusion(comparison: object) -> str:
    """None."""
    return ""
