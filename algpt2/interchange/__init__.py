"""Checkpoints of ours as other programs' files, and other programs' weights as checkpoints of ours."""
