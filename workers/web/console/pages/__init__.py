"""The pages of the console. A page is a function that takes a `View` and returns an answer.

Each module has the routes of its pages.
"""
