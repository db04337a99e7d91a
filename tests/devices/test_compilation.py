import tensorflow as tf
from marks import needs_host_compiler

from algpt2.devices import strategies, wheels
from algpt2.devices.compilation import graph_function


def is_compiled(function):
    """An op that XLA cannot compile tells."""
    try:
        function(tf.constant("text"))
    except tf.errors.InvalidArgumentError:
        return True
    return False


def length(text):
    return tf.strings.length(tf.strings.join([text, text]))


@needs_host_compiler
def test_functions_are_compiled_unless_asked_not_to():
    assert is_compiled(graph_function(length))
    assert not is_compiled(graph_function(length, jit_compile=False))


def test_the_tpu_wheel_on_the_host_compiles_nothing(monkeypatch):
    monkeypatch.setattr(wheels, "installed_version", {"tensorflow-tpu": "2.20.0"}.get)
    assert not is_compiled(graph_function(length))


def test_nothing_is_compiled_twice_on_tpu(monkeypatch):
    monkeypatch.setattr(strategies, "is_tpu", lambda strategy: True)
    assert not is_compiled(graph_function(length))
