"""HellaSwag, LAMBADA and PIQA: their files, their texts, and their figures beside an independent computation."""

import json

import numpy as np
import pytest
import zero_shot_files
from numpy_gpt import forward
from tiny_step import TWO, strategy_of
from zero_shot_files import SEQ_LEN

from algpt2.errors import UserError
from algpt2.evaluation import hellaswag, lambada, piqa
from algpt2.evaluation.multiple_choice import Question
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.zero_shot import chosen, result_of_protocol, table


@pytest.fixture(scope="module")
def tokenizer():
    return zero_shot_files.word_tokenizer()


@pytest.fixture(scope="module")
def scorer(tokenizer):
    return Scorer(zero_shot_files.word_model(tokenizer), batch_size=2, jit_compile=False)


@pytest.fixture
def write(tmp_path):
    """Writes a text into a file and returns its path."""

    def write(text, name="data.jsonl"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


@pytest.fixture(scope="module")
def nats_of(scorer):
    """The negative log-likelihood of each id but the first, and whether it is the likeliest, by the NumPy model."""
    parameters = {name: p.numpy() for name, p in scorer.model.named_parameters().items()}

    def nats_of(ids):
        logits = forward(parameters, np.array([ids[:-1]]), 2, 2)[0].astype(np.float64)
        likelihoods = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return -likelihoods[np.arange(len(ids) - 1), ids[1:]], logits.argmax(axis=-1) == ids[1:]

    return nats_of


def test_hellaswag_of_completion_style_is_that_of_build_nanogpt(scorer, tokenizer, write, nats_of):
    """`ctx` and " " + ending are encoded apart; the least sum of nats is its acc, the least mean its acc_norm."""
    lines = zero_shot_files.hellaswag_jsonl().splitlines()
    questions = hellaswag.read_questions(write(zero_shot_files.hellaswag_jsonl()))
    scores = hellaswag.evaluate_hellaswag(scorer, tokenizer, questions, hellaswag.PROTOCOLS["completion"])
    right, right_norm = 0, 0
    for line, received in zip(lines, scores.nats, strict=True):
        fields = json.loads(line)
        context = tokenizer.encode(fields["ctx"])
        endings = [tokenizer.encode(" " + ending) for ending in fields["endings"]]
        nats = [nats_of([*context, *ending][-SEQ_LEN - 1 :])[0][-len(ending) :] for ending in endings]
        np.testing.assert_allclose(received, [one.sum() for one in nats], rtol=1e-5)
        right += np.argmin([one.sum() for one in nats]) == fields["label"]
        right_norm += np.argmin([one.mean() for one in nats]) == fields["label"]
    figures = scores.figures()
    assert (figures["acc"], figures["acc_norm_tokens"]) == (right / 5, right_norm / 5)
    assert scores.tokens.tolist()[-1] == [len(ending) for ending in endings]
    assert scores.characters.tolist()[1][2] == len("é" * 12) == 12


def test_lambada_of_last_tokens_scores_the_last_token_behind_all_others(scorer, tokenizer, nats_of):
    passages = [zero_shot_files.PASSAGES[i] for i in (0, 3)]
    scores = lambada.evaluate_lambada(scorer, tokenizer, passages, lambada.PROTOCOLS["last_token"])
    expected = [nats_of(tokenizer.encode(passage)) for passage in passages]
    np.testing.assert_allclose(scores.ends.nats, [nats[-1] for nats, _ in expected], rtol=1e-5)
    assert scores.ends.is_greedy.tolist() == [is_greedy[-1] for _, is_greedy in expected] == [True, False]
    figures = scores.figures()
    assert (figures["acc"], figures["acc_stderr"]) == (0.5, 0.5)
    assert figures["perplexity"] == pytest.approx(np.exp(scores.ends.nats.mean()))
    assert scores.counts() == {"passages": 2, "scored_tokens": 2, "cut_contexts": 0}


def test_a_last_word_counts_only_if_all_its_tokens_are_greedy(scorer, tokenizer, nats_of):
    passage = "the cat sat on the mat and opened the do door's"
    continuation = lambada.encode_last_words(tokenizer, [passage])[0]
    assert tokenizer.decode(continuation.ids) == " door's"
    nats, is_greedy = nats_of([*continuation.context_ids, *continuation.ids])
    n = len(continuation.ids)
    assert is_greedy[-n]
    assert not is_greedy[-n:].all()
    scores = lambada.evaluate_lambada(scorer, tokenizer, [passage], lambada.PROTOCOLS["harness"])
    assert scores.figures()["acc"] == 0
    assert scores.figures()["perplexity"] == pytest.approx(np.exp(nats[-n:].sum()), rel=1e-4)


def test_hellaswags_texts_are_the_harnesss(write):
    """Derived by hand from its rules: capitalise ctx_b, strip, " [title]" to ". ", no brackets, no double space."""
    questions = hellaswag.read_questions(write(zero_shot_files.hellaswag_jsonl()))
    rendered = [hellaswag.PROTOCOLS["harness"].render(question) for question in questions]
    assert rendered[0].context == "Roof shingle removal: A man is sitting on a roof. He"
    assert rendered[0].choices[3] == "ate the rat. and the mat "
    assert rendered[1].context == "Baking: Mix the flour. Use a bowl, NOT a hat. "
    assert rendered[1].choices[:2] == (" Oven", "Stir it well and then again.")
    assert rendered[2].context == "Çà et là: The café is naïve; déjà vu everywhere. The old mcdonald"
    assert [question.label for question in rendered] == [3, 0, 2, 1, 2]


def test_passages_are_read_from_json_lines_and_from_plain_text(write):
    passages = list(zero_shot_files.PASSAGES)
    assert lambada.read_passages(write(zero_shot_files.lambada_jsonl())) == passages
    plain = [passage.replace("\n", " ") for passage in passages]
    assert lambada.read_passages(write("\n".join(f" {passage} " for passage in plain) + "\n", "test.txt")) == plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"text": "two words"}\n{"text": "one"}\n',
            "two words or more and end with the last one, and .*line 2 is 'one'",
        ),
        ('{"text": " one"}\n', "line 1 is ' one'"),
        ('{"text": "two words "}\n', "line 1 is 'two words '"),
        ('{"text": "two words"}\n{"body": "two words"}\n', "'text' must be a text, and in .*line 2 it is None"),
        ("two words\none\n", "line 2 is 'one'"),
        ('{"text": "two words"}\ntwo words\n', "must be a JSON object, and .*line 2 is not"),
    ],
)
def test_a_passage_of_one_word_or_without_a_text_is_refused_with_its_line(write, text, expected):
    with pytest.raises(UserError, match=expected):
        lambada.read_passages(write(text))


def changed_question(**changes):
    """The first line of a HellaSwag file, and a second that is changed; None leaves a key out."""
    first = zero_shot_files.hellaswag_jsonl().splitlines()[0]
    second = {key: value for key, value in {**json.loads(first), **changes}.items() if value is not None}
    return first + "\n" + json.dumps(second) + "\n"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"endings": None}, "'endings' must be a list of 4 texts, and in .*line 2 it is None"),
        ({"endings": ["a", "b", "c"]}, r"list of 4 texts, and in .*line 2 it is \['a', 'b', 'c'\]"),
        ({"endings": ["a", "b", " ", "d"]}, "ending 2 must not be blank, and in .*line 2 it is"),
        ({"endings": ["a", "b", 3, "d"]}, "ending 2 must be a text, and in .*line 2 it is 3"),
        ({"label": None}, "from 0 to 3, and in .*line 2 it is None: take a split with labels"),
        ({"label": 4}, "from 0 to 3, and in .*line 2 it is 4"),
        ({"label": -1}, "from 0 to 3, and in .*line 2 it is -1"),
        ({"label": "1"}, "from 0 to 3, and in .*line 2 it is '1'"),
        ({"label": True}, "from 0 to 3, and in .*line 2 it is True"),
        ({"ctx": " "}, "'ctx' must not be blank, and in .*line 2 it is"),
        ({"ctx_b": None}, "'ctx_b' must be a text, and in .*line 2 it is None"),
    ],
)
def test_a_hellaswag_line_that_is_no_question_is_refused_with_its_number(write, changes, expected):
    with pytest.raises(UserError, match=expected):
        hellaswag.read_questions(write(changed_question(**changes)))


def test_piqa_is_read_with_the_labels_of_the_other_file(write):
    data, labels = write(zero_shot_files.piqa_jsonl()), write(zero_shot_files.piqa_labels(), "labels.lst")
    questions = piqa.read_questions(data, labels)
    assert [question.label for question in questions] == [label for *_, label in zero_shot_files.PIQA]
    solutions = ("Turn the key, then the handle.", "Eat the key ")
    assert questions[0] == Question("Question: How do I open a door?\nAnswer:", solutions, 0)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("0\n1\n1\n", "4 questions and .*labels.lst 3 labels"),
        ("0\n2\n1\n0\n", "a label must be 0 or 1, and .*labels.lst, line 2 is '2'"),
        ("0\n\n1\n0\n", "labels.lst, line 2 is blank"),
    ],
)
def test_labels_that_do_not_belong_to_the_questions_are_refused(write, labels, expected):
    with pytest.raises(UserError, match=expected):
        piqa.read_questions(write(zero_shot_files.piqa_jsonl()), write(labels, "labels.lst"))


def test_a_question_of_piqa_without_a_solution_is_refused_with_its_line(write):
    with pytest.raises(UserError, match="'sol2' must be a text, and in .*line 1 it is None"):
        piqa.read_questions(write('{"goal": "a", "sol1": "b"}\n'), write("0\n", "labels.lst"))


def test_two_replicas_give_what_one_gives(scorer, tokenizer):
    strategy = strategy_of(TWO)
    with strategy.scope():
        model = zero_shot_files.word_model(tokenizer)
    two = Scorer(model, batch_size=1, jit_compile=False, strategy=strategy)
    for protocol in lambada.PROTOCOLS.values():
        one_gives, two_give = (
            lambada.evaluate_lambada(each, tokenizer, zero_shot_files.PASSAGES, protocol).ends for each in (scorer, two)
        )
        np.testing.assert_allclose(two_give.nats, one_gives.nats, rtol=1e-5)
        assert two_give.is_greedy.tolist() == one_gives.is_greedy.tolist()


def test_a_result_says_its_protocol_and_the_published_figures_beside_its_own(scorer, tokenizer):
    protocol = lambada.PROTOCOLS["harness"]
    scores = lambada.evaluate_lambada(scorer, tokenizer, zero_shot_files.PASSAGES[:2], protocol)
    result = result_of_protocol(protocol, scores)
    assert result["figures"] == scores.figures()
    assert result["counts"]["passages"] == 2
    assert result["published"]["figures"] == {"acc": 0.3256, "perplexity": 40.06}
    rows = [line.split() for line in table({"harness": result}).splitlines()]
    assert rows[1] == ["harness", "acc", "1.0000", "0.0000", "0.3256"]
    assert rows[2][:2] == ["harness", "perplexity"]
    assert rows[2][3:] == ["-", "40.0600"]
    assert chosen(lambada.PROTOCOLS, "all") == [*lambada.PROTOCOLS.values()]
    assert chosen(lambada.PROTOCOLS, "last_token") == [lambada.PROTOCOLS["last_token"]]
