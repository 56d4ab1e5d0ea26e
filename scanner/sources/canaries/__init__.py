"""Canary tokens: fresh tokens of nobody, planted on a schedule, whose way to the disable is measured."""
