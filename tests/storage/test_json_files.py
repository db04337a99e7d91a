import json
import math

from algpt2.storage import json_files


def test_numbers_that_json_cannot_say_become_null_at_any_depth():
    text = json_files.dumps({"a": math.inf, "b": [math.nan, {"c": (-math.inf, 1.5)}], "d": "x"})
    assert json.loads(text) == {"a": None, "b": [None, {"c": [None, 1.5]}], "d": "x"}
    assert not {"Infinity", "NaN"} & set(text.replace("[", " ").split())
