"""The pages of the console. Each page is a function that takes a `View` (the request of a signed-in person).

Such a function returns a response. In each module, the function `routes` returns the routes of the module's pages.
"""
