"""The demonstration: train a small network, prune and heal it over HTTP, show the figures."""
