"""What r8scan can see of public GitHub, by source and number of installations: a model, which is not part of the
service.
"""
