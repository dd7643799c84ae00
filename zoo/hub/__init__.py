"""The Hugging Face Hub: push a model folder in one commit, fetch one from a single commit."""
