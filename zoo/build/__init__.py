"""One run folder, resumable: a recipe becomes data, a trained encoder, scores, a card and a published model."""
