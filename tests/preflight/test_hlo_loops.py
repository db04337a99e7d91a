from algpt2.preflight import hlo_text
from algpt2.preflight.hlo_loops import flops_with_every_round

NESTED = """HloModule step, is_scheduled=true

%outer_condition (a: (s32[])) -> pred[] {
  %a = (s32[]) parameter(0)
  %i = s32[]{:T(256)} get-tuple-element(%a), index=0
  %limit = s32[]{:T(256)} constant(4), metadata={op_name="while"}
  ROOT %less = pred[]{:T(1024)} compare(%i, %limit), direction=LT
}

%inner_condition (b: (s32[])) -> pred[] {
  %b = (s32[]) parameter(0)
  %j = s32[] get-tuple-element(%b), index=0
  %end = s32[] get-tuple-element(%b), index=1
  ROOT %less.2 = pred[] compare(%j, %end), direction=LT
}

%inner (c: (s32[])) -> (s32[]) {
  ROOT %d = (s32[]) parameter(0)
}

%outer (e: (s32[])) -> (s32[]) {
  %e = (s32[]) parameter(0)
  ROOT %w.2 = (s32[]) while(%e), condition=%inner_condition, body=%inner
}

%called (f: (s32[])) -> (s32[]) {
  %f = (s32[]) parameter(0)
  ROOT %w.1 = (s32[]) while(%f), condition=%outer_condition, body=%outer
}

ENTRY %main (g: (s32[])) -> (s32[]) {
  %g = (s32[]) parameter(0)
  ROOT %h = (s32[]) call(%g), to_apply=%called
}
"""


def test_the_body_of_a_loop_counts_as_often_as_it_runs():
    """The outer loop runs 4 times; the inner one's limit is no constant, so its body counts once in each."""
    flops = {"main": 100.0, "outer": 30.0, "inner": 20.0}
    program = hlo_text.parse(NESTED)
    assert program.rounds == {"inner": None, "outer": 4}
    assert flops_with_every_round(program, flops.get) == 100 + 3 * 30
    known = hlo_text.parse(NESTED.replace("%end = s32[] get-tuple-element(%b), index=1", "%end = s32[] constant(5)"))
    # the outer body is 10 without its loop, and 10 + 5 x 20 with it
    assert flops_with_every_round(known, flops.get) == 70 + 4 * (10 + 5 * 20)
