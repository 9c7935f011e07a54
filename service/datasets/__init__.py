"""Datasets: upload, look up, delete; headers are read here without numpy."""
