"""Chips and pods, the TensorFlow wheel that is installed, distribution strategies, workers, and XLA."""
