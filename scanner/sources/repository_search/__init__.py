"""The source that searches repositories by push time. It sees nearly every push once GitHub's index contains it."""
