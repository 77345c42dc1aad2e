"""What is read of configs that may say anything."""

from __future__ import annotations

from typing import Any

import pytest

from geomcheck.checkpoints.canonical import layer_count


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"num_hidden_layers": 3}, 3),
        ({"n_layer": 4}, 4),
        ({"num_hidden_layers": 9, "text_config": {"num_hidden_layers": 2}}, 2),
        ({"num_hidden_layers": 3, "text_config": None}, 3),
        ({"num_hidden_layers": "3"}, None),
        ({"num_hidden_layers": 10**9}, None),
        ({"num_hidden_layers": True}, None),
        ({"num_hidden_layers": 6, "is_encoder_decoder": True}, None),  # which stack it counts depends on the model
        ({"num_hidden_layers": 6, "block_configs": [{}]}, None),  # some of them hold nothing
        ({}, None),
    ],
)
def test_how_many_layers(config: dict[str, Any], count: int | None) -> None:
    assert layer_count(config) == count
