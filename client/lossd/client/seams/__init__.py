"""Losses where training services and libraries call for one: a module for each, a few lines each.

They take what the caller there is given, have lossd compute value and gradient in one call, and
give both back in the caller's own form and sign.
"""
