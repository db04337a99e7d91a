"""Drawing the next token from its logits: temperature, top-k, top-p, seed."""

import numpy as np

from algpt2.config.sampling import SamplingConfig


def sample(logits: np.ndarray, config: SamplingConfig, rng: np.random.Generator) -> int:
    """Returns an id drawn from the next token's distribution.

    Args:
      logits: float32 (V,).
      config: temperature, top-k and top-p.
      rng: of the whole text, so that its tokens are drawn independently.
    """
    if config.temperature == 0:
        return int(np.argmax(logits))
    return int(rng.choice(len(logits), p=next_token_probabilities(logits, config)))


def next_token_probabilities(logits: np.ndarray, config: SamplingConfig) -> np.ndarray:
    """Returns float64 (V,): the softmax of logits / temperature, cut to top-k and then to top-p, each renormalised.

    Args:
      logits: float32 (V,).
      config: temperature, which must not be 0 here, top-k and top-p (Holtzman et al. 2020, arXiv:1904.09751).
    """
    scaled = logits.astype(np.float64) / config.temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    by_rank = np.argsort(-probabilities, kind="stable")
    if config.top_k:
        probabilities[by_rank[config.top_k :]] = 0
        probabilities /= probabilities.sum()
    # A token stays if all likelier ones together do not reach top_p, so the likeliest always stays.
    before = np.cumsum(probabilities[by_rank]) - probabilities[by_rank]
    probabilities[by_rank[before >= config.top_p]] = 0
    return probabilities / probabilities.sum()
