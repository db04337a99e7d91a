"""A GPT-2 or ALGPT-2 in PyTorch, in the manner of nanoGPT (github.com/karpathy/nanoGPT), to time our step against."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from algpt2.config.model import GPTConfig


class Attention(nn.Module):
    """Causal self-attention by PyTorch's own fused kernel."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.d_model, 3 * config.d_model)
        self.c_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        batch, length, width = x.shape
        # (B, L, D) -> (B, H, L, K)
        heads = [
            part.view(batch, length, self.n_head, -1).transpose(1, 2) for part in self.c_attn(x).split(width, dim=2)
        ]
        attended = functional.scaled_dot_product_attention(*heads, is_causal=True, dropout_p=self.dropout)
        return self.c_proj(attended.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.d_model)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.d_model)
        self.c_fc = nn.Linear(config.d_model, config.feed_forward_size)
        self.c_proj = nn.Linear(config.feed_forward_size, config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = x + self.dropout(self.attn(self.ln_1(x)))
        return x + self.dropout(self.c_proj(functional.gelu(self.c_fc(self.ln_2(x)), approximate="tanh")))


class TorchGPT(nn.Module):
    """The model of a config, always training."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_layer = config.n_layer
        self.wte = nn.Embedding(config.vocab_size, config.table_width)
        self.wpe = nn.Embedding(config.seq_len, config.table_width)
        factorized = config.embedding_size is not None
        self.to_stream = nn.Linear(config.table_width, config.d_model) if factorized else nn.Identity()
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_block))
        self.dropout = nn.Dropout(config.dropout)
        self.ln_f = nn.LayerNorm(config.d_model)
        self.to_table = nn.Linear(config.d_model, config.table_width) if factorized else nn.Identity()
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """int64 (B, L) twice -> mean loss in nats per token."""
        x = self.to_stream(self.wte(inputs) + self.wpe(torch.arange(inputs.shape[1], device=inputs.device)))
        x = self.dropout(x)
        for i in range(self.n_layer):
            x = self.h[i % len(self.h)](x)
        logits = functional.linear(self.to_table(self.ln_f(x)), self.wte.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
