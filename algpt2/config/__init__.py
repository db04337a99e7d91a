"""Every setting and every preset of a model, of training and of a run. This room never imports TensorFlow."""
