"""Image backbones: a small residual network, and vision models of transformers and timm."""
