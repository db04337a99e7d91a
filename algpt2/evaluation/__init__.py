"""Validation, perplexity of a text, and generation of text."""
