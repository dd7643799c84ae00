"""A map from the vectors of a new encoder to those of an old one, so that an old index answers queries of the new encoder.

It is fitted on texts that both encoders read, and saved as one file. `zoo.bridge.bridge.Bridge` is also `zoo.Bridge`.
"""
