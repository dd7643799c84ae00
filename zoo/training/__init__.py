"""Training of any encoder under transformers.Trainer."""
