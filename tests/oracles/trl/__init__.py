"""Comparisons with TRL itself (extra 'oracles'): the same numbers, and a name for what differs.

The trainers' own methods are run on log-probabilities, without a model.
"""
