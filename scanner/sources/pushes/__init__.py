"""Reading of pushes through the git protocol, object by object. Likely pushes are read first."""
