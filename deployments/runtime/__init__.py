"""Ground floor of every capability: types, errors, decoding, ONNX sessions, the model store."""
