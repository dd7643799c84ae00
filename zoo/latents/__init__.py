"""Autoencoders with a latent space of a chosen kind: their networks, inputs and pictures."""
