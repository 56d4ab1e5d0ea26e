"""The source that polls repository search by push time. It sees nearly every push once GitHub's index contains it."""
