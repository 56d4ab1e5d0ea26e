"""The pages of the console. Each page is a function that takes a `View` (the request of a signed-in person) and returns
a response.

Each module has a function `routes` with the routes of its pages.
"""
