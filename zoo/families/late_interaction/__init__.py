"""Late interaction: a vector for each token, compared by MaxSim, on any text model of transformers."""
