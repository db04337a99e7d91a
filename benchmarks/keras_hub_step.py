"""One training step of keras-hub's GPT-2, exported as ours is, for the same compiler."""

from algpt2.errors import UserError

SEQ_LEN, VOCAB_SIZE = 1024, 50257


def keras_hub_program(batch_size: int, dropout: float) -> bytes:
    """Returns a step of keras-hub's GPT-2 124M, trained by `keras.optimizers.AdamW` in bfloat16, as StableHLO."""
    import keras
    import tensorflow as tf

    from algpt2.preflight.step_export import export

    try:
        from keras_hub import models
    except ImportError as error:
        raise UserError(f"--peer needs keras-hub: run `pip install -e '.[bench,rehearsal]'` ({error}).") from error

    keras.config.set_dtype_policy("mixed_bfloat16")
    backbone = models.GPT2Backbone(VOCAB_SIZE, 12, 12, 768, 3072, dropout=dropout, max_sequence_length=SEQ_LEN)
    optimizer = keras.optimizers.AdamW(1e-4, global_clipnorm=1.0)
    optimizer.build(backbone.trainable_variables)

    def step(records: tf.Tensor) -> tf.Tensor:
        inputs, targets = records[:, :-1], records[:, 1:]
        with tf.GradientTape() as tape:
            hidden = backbone({"token_ids": inputs, "padding_mask": tf.ones_like(inputs)}, training=True)
            logits = tf.cast(backbone.token_embedding(hidden, reverse=True), tf.float32)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
        gradients = tape.gradient(loss, [variable.value for variable in backbone.trainable_variables])
        optimizer.apply(gradients, backbone.trainable_variables)
        return loss

    return export(step, tf.TensorSpec((batch_size, SEQ_LEN + 1), tf.int32))
