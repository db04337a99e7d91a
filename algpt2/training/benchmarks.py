"""Public benchmarks that a run scores while it trains (`--eval_wikitext` and its like), each from a local file.

A file is read before the first step, so that what is wrong with it is known then.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from algpt2.config.tracking import TrackingConfig
from algpt2.errors import UserError
from algpt2.evaluation import hellaswag, lambada, perplexity, protocols
from algpt2.evaluation.continuations import Continuation, require_scorable
from algpt2.evaluation.multiple_choice import pairs_of, score_choices
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.wikitext import has_articles
from algpt2.evaluation.wikitext_files import WIKITEXT_TEST, read_wikitext
from algpt2.text.tokenizer import Tokenizer
from algpt2.tracking.metrics import Metrics

# Those whose figures others plot while they train; the guide says what each is compared with.
WIKITEXT_PROTOCOL = protocols.PROTOCOLS["harness"]
HELLASWAG_PROTOCOL = hellaswag.PROTOCOLS["completion"]
LAMBADA_PROTOCOL = lambada.PROTOCOLS["harness"]
WIKITEXT_FIGURES = ("word_perplexity", "bits_per_byte")
HELLASWAG_FIGURES = ("acc", "acc_norm_tokens")
LAMBADA_FIGURES = ("acc", "perplexity")


Measure = Callable[[Scorer], Metrics]


class Benchmark(NamedTuple):
    """What a run asks of its model again and again.

    name: what its log lines and the names of its figures begin with.
    measure: returns the figures of the model that a scorer has, as it is now.
    """

    name: str
    measure: Measure


def read_benchmarks(tracking: TrackingConfig, tokenizer: Tokenizer, seq_len: int) -> tuple[Benchmark, ...]:
    """Returns the benchmarks that a run asks for, with their files read and checked.

    Args:
      tracking: names the files.
      tokenizer: of the run.
      seq_len: positions of its model, into which every text that is scored in one piece must fit.

    Raises:
      UserError: a file cannot be read, is not in its benchmark's format, or holds what the model cannot score.
    """
    asked = (
        (tracking.eval_wikitext, _read_wikitext),
        (tracking.eval_hellaswag, _read_hellaswag),
        (tracking.eval_lambada, _read_lambada),
    )
    return tuple(read(path, tokenizer, seq_len) for path, read in asked if path is not None)


def _read_wikitext(path: str, tokenizer: Tokenizer, _: int) -> Benchmark:
    """The official test file has a name of its own, because what was published is of that file alone."""
    file = read_wikitext(path)
    if not has_articles(file.text):
        raise UserError(
            f"--eval_wikitext must name a file with WikiText's article headings, as ' = Title = ', and {file.path} has "
            "none: name wiki.test.raw or wiki.valid.raw."
        )

    def measure(scorer: Scorer) -> Metrics:
        return _some(perplexity.evaluate_text(scorer, tokenizer, file.text, WIKITEXT_PROTOCOL), WIKITEXT_FIGURES)

    return Benchmark("wikitext_test" if file.sha256 == WIKITEXT_TEST.sha256 else "wikitext", measure)


def _read_hellaswag(path: str, tokenizer: Tokenizer, seq_len: int) -> Benchmark:
    questions = [HELLASWAG_PROTOCOL.render(question) for question in hellaswag.read_questions(path)]
    continuations = HELLASWAG_PROTOCOL.encode(tokenizer, pairs_of(questions))
    _require_scorable(continuations, seq_len)

    def measure(scorer: Scorer) -> Metrics:
        return _some(score_choices(scorer, questions, continuations).figures(), HELLASWAG_FIGURES)

    return Benchmark("hellaswag", measure)


def _read_lambada(path: str, tokenizer: Tokenizer, seq_len: int) -> Benchmark:
    passages = lambada.read_passages(path)
    _require_scorable(LAMBADA_PROTOCOL.encode(tokenizer, passages), seq_len)

    def measure(scorer: Scorer) -> Metrics:
        return _some(lambada.evaluate_lambada(scorer, tokenizer, passages, LAMBADA_PROTOCOL).figures(), LAMBADA_FIGURES)

    return Benchmark("lambada", measure)


def _require_scorable(continuations: Sequence[Continuation], seq_len: int) -> None:
    for continuation in continuations:
        require_scorable(continuation, seq_len)


def _some(figures: Mapping[str, float], names: Sequence[str]) -> Metrics:
    return {name: figures[name] for name in names}
