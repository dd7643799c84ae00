"""Latent-quantized autoencoders: codes whose dimensions mean one thing each, learned without labels from images or vectors."""
