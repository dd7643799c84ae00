"""A byte for each component, in ranges that are stored with the model: a quarter of float32."""
