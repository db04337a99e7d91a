"""A small file of each benchmark that a run can score while it trains, in the words of the fixture `records_folder`."""

import json

WIKITEXT = " = alpha = \n \n beta gamma delta alpha beta . \n the end of beta \n"
LAST_WORDS = ("alpha", "delta")


def question(number, label):
    """A line of HellaSwag."""
    endings = ["alpha beta", "gamma", f"delta {number}", "zeta zeta zeta"]
    parts = {"activity_label": "alpha", "ctx_a": "beta gamma", "ctx_b": "delta", "ctx": "beta gamma delta"}
    return {"ind": number, **parts, "endings": endings, "label": label}


def json_lines(objects):
    """The objects as the content of a file."""
    return "".join(json.dumps(one) + "\n" for one in objects)


def benchmark_files(folder):
    """Writes the files; returns their paths by the flags that name them."""
    contents = {
        "eval_wikitext": WIKITEXT,
        "eval_hellaswag": json_lines(question(i, i % 4) for i in range(6)),
        "eval_lambada": json_lines({"text": f"alpha beta gamma {word}"} for word in LAST_WORDS),
    }
    for flag, content in contents.items():
        (folder / flag).write_text(content)
    return {flag: str(folder / flag) for flag in contents}
