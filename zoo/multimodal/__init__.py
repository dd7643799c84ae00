"""What vision-language models as encoders need: backbones, inputs of text and images, adapters, sets of training rows."""
