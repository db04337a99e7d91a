import pytest

from algpt2.config.tracking import TrackingConfig
from algpt2.errors import UserError


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"wandb_project": ""}, "wandb_project must be a project's name, received ''"),
        ({"sample_tokens": 0}, "sample_tokens must be at least 1, received 0"),
        ({"sample_temperature": -1.0}, "sample_temperature must be 0, or from 0.01 to 100, received -1.0"),
        ({"sample_temperature": float("nan")}, "sample_temperature must be 0, or from 0.01 to 100"),
        ({"device_kind": "v99"}, "device_kind must be one of v2, v3.*received 'v99'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_flags_name(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        TrackingConfig(**fields)


def test_samples_are_drawn_as_the_flags_say():
    sampling = TrackingConfig(sample_tokens=7, sample_temperature=0).sampling()
    assert (sampling.max_new_tokens, sampling.temperature, sampling.seed) == (7, 0, 0)
