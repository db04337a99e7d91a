"""What a tensor is in the signatures of this package; its shape and dtype stand in each docstring's `Args`.

Letters of shapes: B batch, L positions, D d_model, E embedding_size (or d_model without one), F feed-forward, H heads,
K head size, S cached slots, V vocabulary.
"""

from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

# A value inside a computation; while Keras only infers shapes, it is a symbolic one.
Tensor: TypeAlias = tf.Tensor | keras.KerasTensor
# What a computation may be given: parameters and arrays of the host become tensors when they are first used.
TensorLike: TypeAlias = Tensor | keras.Variable | np.ndarray
# A number that is known when the graph is made, or that the graph computes.
Integer: TypeAlias = int | Tensor
