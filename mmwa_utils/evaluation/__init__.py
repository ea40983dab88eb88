"""Evaluation: what a trained run is asked, how its answers are measured, and what may be concluded from them.

Each metric is defined once, in `metrics`, for weighted samples; `statistics` makes intervals and paired comparisons of
it. These two import nothing that trains, so that training can use them.
"""
