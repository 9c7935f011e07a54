"""Networks in torch, run over data: losses, batches, statistics of activations, gradients, training."""
