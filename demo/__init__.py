"""The demonstration: train a small network, prune it over HTTP by two methods, show the figures."""
