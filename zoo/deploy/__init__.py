"""Models for other programs: one graph from token ids to the vector, as ONNX or OpenVINO, and folders that run without torch.

`write` makes a folder, `tracing` its graphs, `int8` and `openvino_graph` their smaller forms. `zoo.runtime` opens it.
"""
