"""Optimizers and learning-rate schedules."""

from algpt2.optim.adafactor import Adafactor
from algpt2.optim.adamw import AdamW
from algpt2.optim.muon import Muon
from algpt2.optim.schedules import TokensCosine, WarmupDecay

__all__ = ["Adafactor", "AdamW", "Muon", "TokensCosine", "WarmupDecay"]
