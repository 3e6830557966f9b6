"""Placeholder."""


def table_csv(comparison: object) -> str:
    """None."""
    return ""
