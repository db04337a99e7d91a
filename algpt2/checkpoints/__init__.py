"""Weights and optimizer state on disk: written, found, checked, loaded, averaged."""
