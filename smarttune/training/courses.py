"""Names and numbers of the learning-rate schedules, for who must not import Keras."""

# fastai's `fit_one_cycle`: pct_start, div, div_final and moms (after Smith 2018, sections 4.1
# and 4.3, and Smith and Topin 2018).
ONE_CYCLE_RISE = 0.25
ONE_CYCLE_START, ONE_CYCLE_END = 1.0 / 25.0, 1e-5
HIGH_MOMENTUM, LOW_MOMENTUM = 0.95, 0.85
# Smith 2017, section 3.3: the lower bound is a third or a quarter of the upper one.
CYCLE_FLOOR = 0.25
# Smith 2017, section 3.2: half a cycle of two to ten epochs, and four cycles or more, of which
# the training ends one. Ours: about four, because searches train few epochs.
HALF_CYCLE_SHARE = 1.0 / 8.0
# Smith 2017, section 3.1, leaves the decay of exp_range open. Ours: a tenth of the height is
# left at the horizon, what one step of a step decay takes away.
EXP_RANGE_END = 0.1
# Loshchilov and Hutter 2017, section 4: cycles that double. Ours: three of them, so that the
# third ends with the horizon: 1/7, 2/7 and 4/7 of it.
RESTART_CYCLES, RESTART_FACTOR = 3, 2

CYCLE_MODES = ("triangular", "triangular2", "exp_range")
SCHEDULES = (
    "constant",
    "plateau",
    "cosine",
    "linear",
    "one_cycle",
    "cyclical",
    "triangular2",
    "exp_range",
    "warm_restarts",
)
