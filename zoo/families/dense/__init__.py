"""Dense sentence embeddings: any text model of transformers, encoder or decoder, fine-tuned whole or by an adapter."""
