"""The Jinja model cards, one per family."""
