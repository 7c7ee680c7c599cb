"""Counting operations in a scheduled program written by hand."""

import os

import pytest

from mcl_jax.errors import ConfigError
from mcl_jax.gpu_check import compiling, counting
from mcl_jax.gpu_check.cards import CARDS, card
from mcl_jax.gpu_check.child import CompilerAbortError, apart

PROGRAM = """\
HloModule jit_step, is_scheduled=true

%fused_add (p0: bf16[4,8], p1: bf16[4,8]) -> bf16[4,8] {
  %p0 = bf16[4,8]{1,0} parameter(0)
  %p1 = bf16[4,8]{1,0} parameter(1)
  ROOT %add.1 = bf16[4,8]{1,0} add(%p0, %p1)
}

%fused_transpose (p0.1: bf16[4,8]) -> bf16[8,4] {
  %p0.1 = bf16[4,8]{1,0} parameter(0)
  ROOT %transpose.1 = bf16[8,4]{1,0} transpose(%p0.1), dimensions={1,0}
}

%body (state: (s32[], f32[16])) -> (s32[], f32[16]) {
  %state = (s32[], f32[16]{0}) parameter(0)
  %x = f32[16]{0} get-tuple-element(%state), index=1
  %i = s32[] get-tuple-element(%state), index=0
  %scatter.1 = f32[16]{0} scatter(%x, %i, %x), to_apply=%region
  ROOT %next = (s32[], f32[16]{0}) tuple(%i, %scatter.1)
}

%condition (state.1: (s32[], f32[16])) -> pred[] {
  %state.1 = (s32[], f32[16]{0}) parameter(0)
  ROOT %go = pred[] constant(true)
}

ENTRY %main (a: bf16[4,8], b: f32[16]) -> (bf16[8,4], f32[16]) {
  %a = bf16[4,8]{1,0} parameter(0), metadata={op_name="a"}
  %b = f32[16]{0} parameter(1)
  %sum = bf16[4,8]{1,0} fusion(%a, %a), kind=kLoop, calls=%fused_add, metadata={op_name="callback"}
  %turned = bf16[8,4]{1,0} fusion(%sum), kind=kInput, calls=%fused_transpose
  %conv = (bf16[4,8]{1,0}, u8[0]{0}) custom-call(%a, %sum), custom_call_target="__cudnn$convForward"
  %start = (s32[], f32[16]{0}) tuple(%zero, %b)
  %loop = (s32[], f32[16]{0}) while(%start), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %out = f32[16]{0} get-tuple-element(%loop), index=1
  %reduced = f32[16]{0} all-reduce(%out), to_apply=%region
  %called = f32[2]{0} custom-call(%reduced), custom_call_target="xla_ffi_python_gpu_callback"
  ROOT %result = (bf16[8,4]{1,0}, f32[16]{0}) tuple(%turned, %reduced)
}
"""  # noqa: E501 (lines as XLA writes them)


def test_counts_by_hand():
    counts = counting.count(PROGRAM)
    assert counts.kernels == 3 + 3 + 2  # fusion, fusion and convolution; the loop's turns; reduction and call
    # 64 bytes an array of bfloat16, 64 of float32; a scatter reads b and its index, and writes b.
    assert counts.traffic == (64 + 64) + (64 + 64) + (64 + 64 + 64) + 3 * (64 + 4 + 64) + 128 + (8 + 64)
    assert counts.convolution_traffic == 3 * 64
    assert (counts.moved, counts.largest_move) == (64, 64)
    assert counts.scatters == 1
    assert counts.host_calls == 1  # the name of a Python function is no call
    assert counts.unbounded_loops == 0
    assert counts.collectives == {"all-reduce f32": (1, 64)}


def test_a_loop_of_unknown_length_is_seen():
    counts = counting.count(PROGRAM.replace('{"known_trip_count":{"n":"3"}}', "{}"))
    assert counts.unbounded_loops == 1


def test_cards_by_name():
    assert card("RTX 4090") is CARDS["rtx4090"]
    with pytest.raises(ConfigError, match="no card 'rtx5090'; there are v100, a100"):
        card("rtx5090")


def test_what_a_card_has_no_units_for_runs_as_float32():
    v100 = CARDS["v100"]
    assert v100.peak("bfloat16") == v100.peak("float32") == v100.peak("tf32") == 15.7e12
    assert v100.peak("float16") == 125e12


@pytest.mark.parametrize("name", CARDS)
def test_targets_are_complete(name):
    target = CARDS[name].target
    assert "{" in target
    assert "None" not in target
    assert f"core_count: {CARDS[name].cores} " in target


def test_an_abort_is_an_error_and_not_the_end():
    with pytest.raises(CompilerAbortError, match="aborted"):
        apart(os.abort)
    assert apart(max, 1, 2) == 2


def test_without_the_compiler_one_line_says_which_extra(monkeypatch):
    monkeypatch.setattr(compiling, "_PLUGINS", ("jax_plugins.absent",))
    assert not compiling.is_installed()
    with pytest.raises(compiling.UserError, match=r"mcl_jax\[gpu-check\]"):
        compiling.absent_devices(CARDS["h100"], 1)
