"""Traffic that can be derived by hand: of instructions as libtpu prints them, and of a program that it compiles."""

import pytest
import tensorflow as tf
from marks import needs_tpu_compiler

from algpt2.preflight import hlo_text
from algpt2.preflight.hbm_traffic import Traffic, traffic_of
from algpt2.preflight.step_export import export
from algpt2.preflight.tpu_compiler import compile_for_tpu

COMPUTATIONS = """HloModule step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%scale (s: f32[100]) -> f32[100] {
  %s = f32[100]{0:T(128)} parameter(0)
  %two = f32[]{:T(128)} constant(2)
  %twos = f32[100]{0:T(128)} broadcast(%two), dimensions={}
  ROOT %scaled = f32[100]{0:T(128)} multiply(%s, %twos)
}

%sum_of_two (t: f32[100], u: f32[100]) -> f32[100] {
  %t = f32[100]{0:T(128)} parameter(0)
  %u = f32[100]{0:T(128)} parameter(1)
  ROOT %t_and_u = f32[100]{0:T(128)} add(%t, %u)
}

%two_slices (p: f32[100]) -> f32[10] {
  %p = f32[100]{0:T(128)} parameter(0)
  %rounded = bf16[100]{0:T(256)} convert(%p)
  %first = bf16[10]{0:T(256)} slice(%rounded), slice={[0:10]}
  %last = bf16[10]{0:T(256)} slice(%rounded), slice={[90:100]}
  %both = bf16[10]{0:T(256)} add(%first, %last)
  ROOT %result = f32[10]{0:T(128)} convert(%both)
}

%slice_and_all (q: f32[100]) -> (f32[10], f32[100]) {
  %q = f32[100]{0:T(128)} parameter(0)
  %some = f32[10]{0:T(128)} slice(%q), slice={[0:10]}
  %all = f32[100]{0:T(128)} negate(%q)
  ROOT %pair = (f32[10]{0:T(128)}, f32[100]{0:T(128)}) tuple(%some, %all)
}

%nested (r: f32[100]) -> f32[10] {
  %r = f32[100]{0:T(128)} parameter(0)
  ROOT %inner = f32[10]{0:T(128)} fusion(%r), kind=kLoop, calls=%two_slices
}

%update (buffer: f32[100], part: f32[10], at: s32[]) -> f32[100] {
  %buffer = f32[100]{0:T(128)} parameter(0)
  %part = f32[10]{0:T(128)} parameter(1)
  %at = s32[]{:T(128)} parameter(2)
  ROOT %updated = f32[100]{0:T(128)} dynamic-update-slice(%buffer, %part, %at)
}

%update_of_new (part.1: f32[10], at.1: s32[]) -> f32[100] {
  %zero = f32[]{:T(128)} constant(0)
  %zeros = f32[100]{0:T(128)} broadcast(%zero), dimensions={}
  %part.1 = f32[10]{0:T(128)} parameter(0)
  %at.1 = s32[]{:T(128)} parameter(1)
  ROOT %updated.1 = f32[100]{0:T(128)} dynamic-update-slice(%zeros, %part.1, %at.1)
}

%scatter (table: f32[100,8], indices: s32[5], rows: f32[5,8]) -> f32[100,8] {
  %table = f32[100,8]{1,0:T(8,128)} parameter(0)
  %indices = s32[5]{0:T(128)} parameter(1)
  %rows = f32[5,8]{1,0:T(8,128)} parameter(2)
  ROOT %scattered = f32[100,8]{1,0:T(8,128)} scatter(%table, %indices, %rows), to_apply=%add
}

%condition (state: (s32[], f32[100])) -> pred[] {
  %state = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)}) parameter(0)
  %i = s32[]{:T(128)S(6)} get-tuple-element(%state), index=0
  %limit = s32[]{:T(128)S(6)} constant(7)
  ROOT %less = pred[]{:T(512)S(6)} compare(%i, %limit), direction=LT
}

%body (state.1: (s32[], f32[100])) -> (s32[], f32[100]) {
  %state.1 = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)}) parameter(0)
  %i.1 = s32[]{:T(128)S(6)} get-tuple-element(%state.1), index=0
  %value = f32[100]{0:T(128)} get-tuple-element(%state.1), index=1
  %fused = f32[100]{0:T(128)} fusion(%value), kind=kLoop, calls=%scale
  ROOT %next = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)}) tuple(%i.1, %fused)
}

%large (m: f32[100]) -> f32[10] {
  %m = f32[100]{0:T(128)} parameter(0)
  %negated = f32[100]{0:T(128)} negate(%m)
  ROOT %part_of_negated = f32[10]{0:T(128)S(1)} slice(%negated), slice={[0:10]}
}

%small (n: f32[100]) -> f32[10] {
  %n = f32[100]{0:T(128)} parameter(0)
  ROOT %part_of_n = f32[10]{0:T(128)S(1)} slice(%n), slice={[0:10]}
}

ENTRY %main (a: f32[100], b: f32[100], i: s32[], table: f32[100,8]) -> f32[100] {
  %a = f32[100]{0:T(128)} parameter(0)
  %b = f32[100]{0:T(128)S(1)} parameter(1)
  %i.2 = s32[]{:T(128)S(6)} parameter(2)
  %table.1 = f32[100,8]{1,0:T(8,128)} parameter(3)
  %ids = s32[5]{0:T(128)S(1)} parameter(4)
  %part.2 = f32[10]{0:T(128)S(1)} parameter(5)
  %rows.1 = f32[5,8]{1,0:T(8,128)S(1)} parameter(6)
  %start = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)}) tuple(%i.2, %a)
  BODY
}
"""


def traffic(*instructions: str) -> Traffic:
    """Returns the traffic of a program that consists of these instructions."""
    return traffic_of(hlo_text.parse(COMPUTATIONS.replace("BODY", "\n  ".join(instructions))))


A, B, TENTH, ROWS, SCALAR = 400, 400, 40, 160, 4  # bytes: a in HBM, b on the chip, a tenth of either, five rows


@pytest.mark.parametrize(
    ("instruction", "hbm_bytes", "on_chip_bytes"),
    [
        ("%r = f32[100]{0:T(128)} add(%a, %b)", 2 * A, B),
        ("%r = f32[100]{0:T(128)S(1)} add(%a, %a)", A, B),
        ("%r = f32[100]{0:T(128)S(1)} fusion(%b), kind=kLoop, calls=%scale", 0, 2 * B),
        ("%r = f32[100]{0:T(128)} bitcast(%a)", 0, 0),
        ("%r = (f32[100]{0:T(128)}, f32[100]{0:T(128)S(1)}) tuple(%a, %b)", 0, 0),
        ('%r = f32[200]{0:T(128)S(1)} custom-call(%b, %b), custom_call_target="ConcatBitcast"', 0, 0),
        ("%r = f32[50,2]{1,0:T(8,128)} copy(%a)", 2 * A, 0),
        # Parts of operands.
        ("%r = f32[10]{0:T(128)S(1)} slice(%a), slice={[0:10]}", TENTH, TENTH),
        ("%r = f32[10]{0:T(128)S(1)} dynamic-slice(%a, %i.2), dynamic_slice_sizes={10}", TENTH, TENTH + SCALAR),
        ("%r = f32[5,8]{1,0:T(8,128)} gather(%table.1, %ids), slice_sizes={1,8}", 2 * ROWS, 5 * 4),
        ("%r = f32[10]{0:T(128)S(1)} fusion(%a), kind=kLoop, calls=%two_slices", TENTH, TENTH),
        ("%r = f32[10]{0:T(128)S(1)} fusion(%a), kind=kLoop, calls=%nested", TENTH, TENTH),
        ("%r = f32[100]{0:T(128)S(1)} fusion(%a, %a), kind=kLoop, calls=%sum_of_two", A, B),
        ("%r = (f32[10]{0:S(1)}, f32[100]{0:S(1)}) fusion(%a), kind=kLoop, calls=%slice_and_all", A, TENTH + B),
        # Parts of results.
        ("%r = f32[100]{0:T(128)} dynamic-update-slice(%a, %part.2, %i.2)", TENTH, TENTH + SCALAR),
        ("%r = f32[100]{0:T(128)} fusion(%a, %part.2, %i.2), calls=%update", TENTH, TENTH + SCALAR),
        ("%r = f32[100]{0:T(128)} fusion(%part.2, %i.2), calls=%update_of_new", A, TENTH + SCALAR),
        ("%r = f32[100,8]{1,0:T(8,128)} fusion(%table.1, %ids, %rows.1), calls=%scatter", 2 * ROWS, ROWS + 5 * 4),
        # Loops and branches.
        (
            "%r = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)}) while(%start), condition=%condition, body=%body",
            7 * 2 * A,
            7 * (2 * SCALAR + 1),
        ),
        ("%r = f32[10]{0:T(128)S(1)} conditional(%i.2, %a, %a), branch_computations={%large, %small}", TENTH, TENTH),
        ("%r = f32[10]{0:T(128)S(1)} call(%a), to_apply=%small", TENTH, TENTH),
    ],
)
def test_an_instruction_moves_what_it_reads_and_writes_by_memory_space(instruction, hbm_bytes, on_chip_bytes):
    assert traffic(instruction) == Traffic(hbm_bytes, on_chip_bytes)


@pytest.mark.parametrize(
    ("start", "done", "hbm_bytes", "on_chip_bytes"),
    [
        (
            "(f32[100]{0:S(1)}, f32[100]{0}, u32[]{:S(2)}) copy-start(%a)",
            "f32[100]{0:S(1)} copy-done(%r)",
            A,
            B,
        ),
        (
            "(f32[100]{0}, f32[100]{0:S(1)}, u32[]{:S(2)}) copy-start(%b)",
            "f32[100]{0} copy-done(%r)",
            A,
            B,
        ),
        (
            "((f32[100]{0}), f32[10]{0:S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:10]}",
            "f32[10]{0:S(1)} slice-done(%r)",
            TENTH,
            TENTH,
        ),
        (
            "((f32[100]{0}), f32[10]{0:S(1)}, s32[]{:S(2)}) async-start(%a), calls=%small",
            "f32[10]{0:S(1)} async-done(%r)",
            TENTH,
            TENTH,
        ),
    ],
)
def test_an_asynchronous_copy_counts_once_in_each_memory(start, done, hbm_bytes, on_chip_bytes):
    assert traffic(f"%r = {start}", f"%d = {done}") == Traffic(hbm_bytes, on_chip_bytes)


def test_a_loop_of_no_rounds_moves_nothing():
    loop = "%r = (s32[]{:S(6)}, f32[100]{0}) while(%start), condition=%condition, body=%body"
    text = COMPUTATIONS.replace("BODY", loop).replace("constant(7)", "constant(0)")
    assert traffic_of(hlo_text.parse(text)) == Traffic(0, 0)


def test_a_loop_of_unknown_length_counts_as_one_round():
    loop = "%r = (s32[]{:S(6)}, f32[100]{0}) while(%start), condition=%condition, body=%body"
    text = COMPUTATIONS.replace("BODY", loop).replace(
        "%limit = s32[]{:T(128)S(6)} constant(7)", "%limit = s32[] copy(%i)"
    )
    program = hlo_text.parse(text)
    assert program.rounds == {"body": None}
    assert traffic_of(program).hbm_bytes == 2 * A + 2 * SCALAR  # the limit's copy is written and read in HBM


def chained_products(x: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    return (x @ first) @ second


@needs_tpu_compiler
@pytest.mark.parametrize(("kind", "stays_on_chip"), [("v3", False), ("v5e", True)])
def test_what_lies_between_two_products_costs_memory_traffic_only_where_the_chip_cannot_keep_it(kind, stays_on_chip):
    """Two chained products of 3072 x 3072 bfloat16, 18 MiB each: three arguments are read and one result is written.

    What lies between them is written and read too: in HBM on a v3, whose memory on the chip is smaller than that, and
    on the chip on a v5e.
    """
    matrix = tf.TensorSpec((3072, 3072), tf.bfloat16)
    compiled = compile_for_tpu(export(chained_products, matrix, matrix, matrix), kind)
    assert compiled.hbm_bytes_moved / (2 * 3072**2) == (4 if stays_on_chip else 6)
    assert compiled.on_chip_bytes_moved / (2 * 3072**2) >= (2 if stays_on_chip else 0)
