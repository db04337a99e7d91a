"""ALGPT-2: pretrain GPT-2 and ALBERT-style GPT-2 with TensorFlow and Keras on TPUs, GPUs or a laptop."""

__version__ = "0.1.0"
