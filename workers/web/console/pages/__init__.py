"""The pages of the console. Each page is a function that takes a `View`, the request of a signed-in person.

The function returns a response. The function `routes` of each module returns the routes of its pages.
"""
