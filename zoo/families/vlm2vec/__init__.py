"""VLM2Vec: a vision-language model becomes an encoder of any mix of images and text under instructions."""
