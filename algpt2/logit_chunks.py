"""How many tokens' logits are held at a time."""

# Each chunk reads the token table and adds to its gradient, so small chunks cost traffic; a chunk of logits is
# (tokens, V), in bfloat16 206 MB for 2048 tokens and GPT-2's vocabulary.
LEAST_CHUNK_TOKENS = 2048
# All chunks are in the graph, so their number is bounded.
MOST_CHUNKS = 8


def chunk_tokens(tokens: int) -> int:
    """Returns the size of the chunks, the last of which may be smaller, that so many tokens are cut into."""
    return min(tokens, max(LEAST_CHUNK_TOKENS, -(-tokens // MOST_CHUNKS)))
