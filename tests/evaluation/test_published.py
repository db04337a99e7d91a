"""What stands beside curves is what stands beside the results of the scripts."""

from algpt2.evaluation import hellaswag, lambada
from algpt2.evaluation.protocols import PROTOCOLS
from algpt2.evaluation.published import BASELINES
from algpt2.training.benchmarks import HELLASWAG_PROTOCOL, LAMBADA_PROTOCOL, WIKITEXT_PROTOCOL


def test_the_protocols_of_curves_and_of_scripts_have_the_same_published_figures():
    of_gpt2 = {metric: baselines[0].value for metric, baselines in BASELINES.items()}
    assert HELLASWAG_PROTOCOL is hellaswag.PROTOCOLS["completion"]
    assert LAMBADA_PROTOCOL is lambada.PROTOCOLS["harness"]
    assert WIKITEXT_PROTOCOL is PROTOCOLS["harness"]
    assert of_gpt2 == {
        "wikitext_test_word_perplexity": WIKITEXT_PROTOCOL.published[0].value,
        "hellaswag_acc_norm_tokens": HELLASWAG_PROTOCOL.published["acc_norm_tokens"],
        "lambada_acc": LAMBADA_PROTOCOL.published["acc"],
        "lambada_perplexity": LAMBADA_PROTOCOL.published["perplexity"],
    }
