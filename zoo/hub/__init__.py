"""The Hugging Face Hub: push a model folder in one commit, and fetch a model folder from one commit."""
