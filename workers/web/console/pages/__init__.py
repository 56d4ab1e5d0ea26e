"""The pages of the console. Each page is a function that takes a `View` (a request of a signed-in person) and returns
an HTTP answer.

Each module has a function `routes`, which returns the routes of its pages.
"""
