"""Data for a model: uploaded files bound to its inputs, or seeded random inputs where there are none."""

from worker.engine.data.batches import Batch
from worker.engine.data.dataset import Dataset
from worker.engine.data.opening import load_dataset
from worker.engine.data.synthetic import random_batches, random_inputs

__all__ = ["Batch", "Dataset", "load_dataset", "random_batches", "random_inputs"]
