"""Drawing the next token from its logits: temperature, top-k, top-p, seed."""

import numpy as np

from algpt2.config.sampling import SamplingConfig


def sample(logits: np.ndarray, config: SamplingConfig, rng: np.random.Generator) -> int:
    """Returns an id drawn from float32 (V,) logits."""
    if config.temperature == 0:
        return int(np.argmax(logits))
    return int(rng.choice(len(logits), p=next_token_probabilities(logits, config)))


def next_token_probabilities(logits: np.ndarray, config: SamplingConfig) -> np.ndarray:
    """Returns float64 (V,): softmax of logits / temperature, then top-k, then top-p, renormalised."""
    scaled = logits.astype(np.float64) / config.temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    by_rank = np.argsort(-probabilities, kind="stable")
    if config.top_k:
        probabilities[by_rank[config.top_k :]] = 0
        probabilities /= probabilities.sum()
    # A token stays while the likelier ones have not yet reached top_p; the likeliest always does.
    before = np.cumsum(probabilities[by_rank]) - probabilities[by_rank]
    probabilities[by_rank[before >= config.top_p]] = 0
    return probabilities / probabilities.sum()
