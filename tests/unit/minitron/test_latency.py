"""Timing of students: which modules run, and what is taken for a block."""

import pytest
import torch

from minitron.families import read_architecture
from minitron.latency import Timing, _blocks_to_time, _random_student, device_name, time_student
from tests.tiny import NAMES, tiny_config

CPU = torch.device("cpu")
SETTING = {"context": 8, "batch": 2, "dtype": "float32", "device": CPU}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_students_of_every_family_are_timed(name, phase, monkeypatch):
    monkeypatch.setattr("minitron.latency.LONGEST_SECONDS", 0.0)
    config = tiny_config(name)
    found = time_student(config, read_architecture(config), phase=phase, **SETTING)
    assert found.num_blocks == 4
    assert min(found.block, found.ends) > 1000  # no pass of a block takes less than a microsecond


@pytest.mark.parametrize("name", NAMES)
def test_what_is_timed_is_a_student_of_the_shape(name):
    config = tiny_config(name)
    shape = read_architecture(config)
    student = _random_student(config, shape, shape.num_layers, dtype=torch.float32, device=CPU)
    assert sum(each.numel() for each in student.parameters()) == shape.parameter_count
    storages = {each.untyped_storage().data_ptr() for each in student.parameters()}
    assert len(storages) == len(list(student.parameters()))  # each weight from a place of its own


def test_blocks_and_ends_are_all_of_a_pass():
    assert Timing(block=3, ends=4, num_blocks=5).whole == 19


def test_the_more_work_a_weight_has_the_fewer_blocks_are_made_in_whole_turns_of_their_kinds():
    config = tiny_config("llama", num_hidden_layers=40, hidden_size=480, intermediate_size=4000)
    shape = read_architecture(config)
    block_bytes = 4 * shape.layer_parameters
    made = [_blocks_to_time(config, shape, dtype="float32", tokens=tokens) for tokens in (1, 4, 4096)]
    assert made == [-(-(256 * 2**20) // block_bytes), -(-(64 * 2**20) // block_bytes), 2]
    turns = config | {"layer_types": ["sliding", "sliding", "full", "full"] * 10}
    assert _blocks_to_time(turns, shape, dtype="float32", tokens=4096) == 4
    assert _blocks_to_time(config, read_architecture(tiny_config("llama")), dtype="float32", tokens=1) == 4


def test_a_block_of_a_hundred_times_the_work_takes_longer():
    def block(neurons):
        config = tiny_config("llama", hidden_size=96, intermediate_size=neurons)
        return time_student(
            config, read_architecture(config), phase="prefill", **SETTING | {"context": 128}
        ).block

    assert block(40) < block(4000)


def test_a_cpu_says_what_it_is():
    assert device_name(CPU)
