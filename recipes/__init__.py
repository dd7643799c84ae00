"""The recipes that ship with zoo."""
