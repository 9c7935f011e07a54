"""ONNX's own operator test-suite as the judge of operators in torch, and finite differences of gradients."""
