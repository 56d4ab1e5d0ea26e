"""The pages of the console. Each is a function from a `View` to an answer; each module has the routes of its pages."""
