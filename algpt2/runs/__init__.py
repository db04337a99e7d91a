"""A run as data: its request, its plan, its folder, its past steps. This room never imports TensorFlow."""
