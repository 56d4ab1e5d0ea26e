"""The pages of the console. A page is a function that takes a `View` and returns a response."""
